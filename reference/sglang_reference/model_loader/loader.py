"""``sglang.srt.model_loader.loader``: models made on the device, and their weights read or drawn.

Facts: SGLang 0.5.11 to 0.5.23, srt/model_loader/loader.py.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sglang_reference._errors import not_covered

from ..configs.load_config import LoadConfig, LoadFormat
from .utils import get_model_architecture, set_default_torch_dtype
from .weight_utils import initialize_dummy_weights, pt_weights_iterator

__all__ = ["BaseModelLoader", "DefaultModelLoader", "DummyModelLoader", "get_model_loader"]

Weights = Iterable[tuple[str, torch.Tensor]]
_PATTERNS = {LoadFormat.AUTO: ("*.bin", "*.pt"), LoadFormat.PT: ("*.pt",)}
# What lies beside weights that a trainer saved, and is none.
_NO_WEIGHTS = frozenset(["training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"])


class BaseModelLoader(ABC):
    """Base of loaders."""

    def __init__(self, load_config: LoadConfig) -> None:
        self.load_config = load_config

    @abstractmethod
    def download_model(self, model_config: Any) -> None:
        """Fetch a model, so that it can be loaded at once."""

    @abstractmethod
    def load_model(self, *, model_config: Any, device_config: Any) -> nn.Module:
        """The model, with its weights, on the device."""


class DefaultModelLoader(BaseModelLoader):
    """Reads what torch saved in a folder."""

    @dataclasses.dataclass
    class Source:
        """Where weights come from: a folder, and what their names are preceded by."""

        model_or_path: str
        revision: str | None
        prefix: str = ""
        fall_back_to_pt: bool = True
        model_config: Any = None

        @classmethod
        def init_new(cls, model_config: Any, model: nn.Module) -> DefaultModelLoader.Source:
            """A model's own."""
            return cls(model_config.model_path, model_config.revision, model_config=model_config)

    def download_model(self, model_config: Any) -> None:
        """Nothing: a model is a folder on this machine. Raises RuntimeError where it has no weights."""
        self._files(model_config.model_path)

    def load_model(self, *, model_config: Any, device_config: Any) -> nn.Module:
        """The model, with its weights, on the device.

        Raises RuntimeError where the folder has no weights, NotCovered where they are in a form that is not read.
        """
        device = torch.device(device_config.device)
        with set_default_torch_dtype(model_config.dtype):
            with device:
                model = _made(model_config)
            self.load_weights_and_postprocess(model, self._get_all_weights(model_config, model), device)
        model.eval()
        loaded: nn.Module = model
        return loaded

    @staticmethod
    def load_weights_and_postprocess(model: nn.Module, weights: Weights, target_device: torch.device) -> None:
        """Have the model take its weights, and each of its parts what it makes of them."""
        model.load_weights(weights)  # type: ignore[operator]
        _postprocess(model)

    def _get_all_weights(self, model_config: Any, model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        return self._get_weights_iterator(self.Source.init_new(model_config, model))

    def _get_weights_iterator(self, source: Source) -> Iterator[tuple[str, torch.Tensor]]:
        for name, weight in pt_weights_iterator(self._files(source.model_or_path)):
            yield source.prefix + name, weight

    def _files(self, folder: str) -> list[str]:
        if not Path(folder).is_dir():
            raise not_covered(f"a model that is no folder on this machine: {folder}")
        if self.load_config.load_format is LoadFormat.AUTO and any(Path(folder).glob("*.safetensors")):
            raise not_covered("weights in safetensors")
        for pattern in _PATTERNS[self.load_config.load_format]:
            files = [str(file) for file in sorted(Path(folder).glob(pattern)) if file.name not in _NO_WEIGHTS]
            if files:
                return files
        raise RuntimeError(f"there are no weights in {folder}, as in pytorch_model.bin")


class DummyModelLoader(BaseModelLoader):
    """Draws small random weights."""

    def __init__(self, load_config: LoadConfig) -> None:
        """Raises ValueError for settings besides the form."""
        super().__init__(load_config)
        if load_config.model_loader_extra_config:
            raise ValueError("random weights take no further settings of a loader")

    def download_model(self, model_config: Any) -> None:
        """Nothing."""

    def load_model(self, *, model_config: Any, device_config: Any) -> nn.Module:
        """The model, with random weights, on the device."""
        with set_default_torch_dtype(model_config.dtype):
            with torch.device(device_config.device):
                model = _made(model_config)
            _postprocess(model)
            with torch.no_grad():
                initialize_dummy_weights(model)
            if hasattr(model, "post_load_weights"):
                model.post_load_weights()
        model.eval()
        loaded: nn.Module = model
        return loaded


def get_model_loader(load_config: LoadConfig, model_config: Any = None) -> BaseModelLoader:
    """The loader of a form, or of a class of its own that the configuration names in the place of one."""
    if isinstance(load_config.load_format, type):
        loader: BaseModelLoader = load_config.load_format(load_config)
        return loader
    return (DummyModelLoader if load_config.load_format is LoadFormat.DUMMY else DefaultModelLoader)(load_config)


def _made(model_config: Any) -> Any:
    model_class, _ = get_model_architecture(model_config)
    return model_class(config=model_config.hf_config, quant_config=_quantisation(model_config))


def _quantisation(model_config: Any) -> Any:
    """What the model's parts are quantised by: the class of that name, of what the model's configuration tells.

    Raises ValueError where that does not have the model's dtype.
    """
    if model_config.quantization is None:
        return None
    from ..layers.quantization import get_quantization_config

    kind = get_quantization_config(model_config.quantization)
    told = getattr(model_config.hf_config, "quantization_config", None)
    if told is None:
        if kind.get_config_filenames():
            raise not_covered(f"files that tell of the quantisation {model_config.quantization}")
        quantisation = kind()
    else:
        quantisation = kind.from_config({**told, "packed_modules_mapping": {}, "hf_config": model_config.hf_config})
    if model_config.dtype not in quantisation.get_supported_act_dtypes():
        raise ValueError(f"{model_config.dtype} is not supported by the quantisation {model_config.quantization}")
    return quantisation


def _postprocess(model: nn.Module) -> None:
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if method is not None:
            method.process_weights_after_loading(module)
