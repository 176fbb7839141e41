"""One SGLang release as a plugin meets it: what a dotted path is there, and what its contract has."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ...contract.index import Index, Resolved, Unknown
from ...contract.model import Contract, Deprecation
from .outside import lacks
from .values import Host

MIXIN, INTERFACE = "sglang.srt.platforms.device_mixin", "sglang.srt.platforms.interface"
BASES = (f"{INTERFACE}.SRTPlatform", f"{MIXIN}.DeviceMixin")
CAPABILITIES = f"{INTERFACE}.PlatformCapabilities"
CURRENT = ".current_platform"
HOOK_TYPE = "hook_registry.HookType"


@dataclass(frozen=True)
class Release:
    """A release: its contract and its index; ``named`` gives the paths in any release that end in a name."""

    contract: Contract
    index: Index = field(repr=False)
    named: Callable[[str], Collection[str]] = field(repr=False)

    @property
    def name(self) -> str:
        """Its number."""
        return self.contract.release

    def find(self, path: str) -> Host | None:
        """What a dotted path leads to; None where it is certainly not there."""
        owner, _, name = path.rpartition(".")
        known = self._closed.get(owner)
        if known is not None and name in self._ever[owner]:
            return Host(path) if name in known else None
        found = self.index.resolve(path)
        if isinstance(found, Unknown) and self._lacks(owner, name):
            return None
        if isinstance(found, Resolved):
            # Its methods are asked for by the path that it is known by.
            return Host(path if path.endswith(CURRENT) else found.path, found.symbol)
        return None if found is None else Host(path)

    def _lacks(self, owner: str, name: str) -> bool:
        key = (owner, name)
        if key not in self._lacking:
            self._lacking[key] = lacks(self.index, owner, name, self.named)
        return self._lacking[key]

    @cached_property
    def _lacking(self) -> dict[tuple[str, str], bool]:
        return {}

    def has(self, path: str) -> bool:
        """Whether a dotted path is certainly there."""
        owner, _, name = path.rpartition(".")
        if owner in self._closed and name in self._ever[owner]:
            return name in self._closed[owner]
        return isinstance(self.index.resolve(path), Resolved)

    def deprecated(self, kind: str) -> Mapping[str, Deprecation]:
        """What this release warns of, by name: members, variables, or targets of imports and hooks."""
        return self._deprecated.get(kind, {})

    @cached_property
    def _deprecated(self) -> dict[str, dict[str, Deprecation]]:
        found: dict[str, dict[str, Deprecation]] = {}
        for deprecation in self.contract.deprecations:
            found.setdefault(deprecation.kind, {})[deprecation.name] = deprecation
        return found

    @cached_property
    def _closed(self) -> Mapping[str, frozenset[str]]:
        """The classes whose members the contract's own table lists."""
        contract = self.contract
        return {
            f"{MIXIN}.PlatformEnum": frozenset(contract.platform_enum),
            f"{MIXIN}.CpuArchEnum": frozenset(contract.cpu_arch_enum),
            CAPABILITIES: frozenset(contract.capabilities),
        }

    @cached_property
    def _ever(self) -> Mapping[str, _Fields]:
        return {
            f"{MIXIN}.PlatformEnum": _Fields(upper=True),
            f"{MIXIN}.CpuArchEnum": _Fields(upper=True),
            CAPABILITIES: _Fields(upper=False),
        }


@dataclass(frozen=True)
class _Fields:
    """Which names such a class may have as members or fields: not what every enum or struct has."""

    upper: bool

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and not name.startswith("_") and name.isupper() is self.upper


def arguments(signature: str) -> ast.arguments | None:
    """The parameters of a signature from a table; None where there is none, or it is no Python."""
    if not signature.startswith("("):
        return None
    try:
        node = ast.parse(f"def f{signature}: ...").body[0]
    except SyntaxError:
        return None
    return node.args if isinstance(node, ast.FunctionDef) else None
