"""``sglang.srt.models.registry``: models by architecture, to which plugins add theirs, or put them in another's place.

``SGLANG_EXTERNAL_MODEL_PACKAGE`` names a package whose models are added, and come before SGLang's own.

Facts: SGLang 0.5.11 to 0.5.23, srt/models/registry.py.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pkgutil
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from torch import nn

from .._contract import since

__all__ = ["ModelRegistry", "import_model_classes"]

logger = logging.getLogger(__name__)

_OWN = "sglang.srt.models"
# What the package of the reference's own models has, whose folder is not told to Python.
_MODULES = ("deepseek_v2", "llama", "mixtral")


@functools.lru_cache
def import_model_classes(package_name: str, strict: bool = False) -> dict[str, type[nn.Module]]:
    """What the modules of a package name as ``EntryClass``, one class or a list, by the class's name.

    A module that cannot be imported is told in the log; with ``strict`` its error is raised.
    """
    found: dict[str, type[nn.Module]] = {}
    for name in _modules(package_name):
        try:
            module = importlib.import_module(name)
        except Exception as error:
            if strict:
                raise
            logger.warning("The models of %s are left out, as it cannot be imported: %s", name, error)
            continue
        entry = getattr(module, "EntryClass", [])
        for each in entry if isinstance(entry, list) else [entry]:
            assert each.__name__ not in found, f"two modules of {package_name} have a model {each.__name__}"
            found[each.__name__] = each
    return found


def _modules(package_name: str) -> list[str]:
    if package_name == _OWN:
        return [f"{_OWN}.{name}" for name in _MODULES]
    package = importlib.import_module(package_name)
    return [each.name for each in pkgutil.iter_modules(package.__path__, package_name + ".") if not each.ispkg]


@dataclass
class _ModelRegistry:
    """Models by the name of their architecture."""

    models: dict[str, type[nn.Module]] = field(default_factory=dict)

    def register(self, package_name: str, overwrite: bool = False, strict: bool = False) -> None:
        """Add the models of a package. Raises ValueError where one is there and not to be replaced."""
        for name, model in import_model_classes(package_name, strict=strict).items():
            if name in self.models and not overwrite:
                raise ValueError(f"a model {name} is registered already; overwrite=True replaces it")
            self.models[name] = model

    def get_supported_archs(self) -> Set[str]:
        """The architectures there are models of."""
        return self.models.keys()

    if since("0.5.21"):

        def is_arch_supported(self, architecture: str) -> bool:
            """Whether there is a model of it."""
            return architecture in self.models

    def resolve_model_cls(self, architectures: str | Sequence[str]) -> tuple[type[nn.Module], str]:
        """The first of these architectures that there is a model of. Raises ValueError where there is none."""
        named = [architectures] if isinstance(architectures, str) else architectures
        for architecture in named:
            if architecture in self.models:
                return self.models[architecture], architecture
        raise ValueError(f"no model of {', '.join(named)} is registered; there are {', '.join(sorted(self.models))}")


ModelRegistry = _ModelRegistry()
ModelRegistry.register(_OWN)
if _external := os.environ.get("SGLANG_EXTERNAL_MODEL_PACKAGE"):
    ModelRegistry.register(_external, overwrite=True)
