"""``sglang.srt.layers.quantization.base_config``: how layers keep and apply their weights, as classes to derive from.

Facts: SGLang 0.5.11, 0.5.22 and 0.5.23.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..._contract import since

__all__ = [
    "FusedMoEMethodBase",
    "LinearMethodBase",
    "QuantizationConfig",
    "QuantizeMethodBase",
    "method_has_implemented_embedding",
]


class QuantizeMethodBase(ABC):
    """How a layer keeps its weights and computes with them."""

    def create_weights(self, layer: nn.Module, *weight_args: Any, **extra_weight_attrs: Any) -> None:
        """Give the layer its parameters."""
        raise NotImplementedError

    @abstractmethod
    def apply(self, layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """What the layer makes of its input."""

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        """Change the parameters once all are loaded; nothing is, here."""
        return


class LinearMethodBase(QuantizeMethodBase):
    """How a linear layer keeps its weight and multiplies with it."""

    def create_weights(
        self,
        layer: nn.Module,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give the layer the parameters of this rank's part."""
        raise NotImplementedError

    @abstractmethod
    def apply(self, layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """The product with this rank's part of the weight, plus a bias."""


class FusedMoEMethodBase(QuantizeMethodBase):
    """How experts keep their weights and compute with them."""

    def create_weights(
        self,
        layer: nn.Module,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give the layer the parameters of this rank's experts."""
        raise NotImplementedError

    def create_moe_runner(self, layer: nn.Module, moe_runner_config: Any) -> None:
        """Take the experts' settings; called once, before weights are loaded."""
        raise NotImplementedError

    if since("0.5.23"):

        def get_moe_runner_backend(self, layer: nn.Module) -> Any:
            """What runs the experts, asked after :meth:`create_moe_runner`; None, where it is the method itself."""
            return None

        def get_moe_routing_method_type(self, layer: nn.Module, requested_method: Any) -> Any:
            """How what runs the experts wants tokens sent to them: as asked."""
            return requested_method

    @abstractmethod
    def apply(self, layer: nn.Module, dispatch_output: Any) -> Any:
        """What this rank's experts make of the tokens, summed with the router's weights."""


class QuantizationConfig(ABC):
    """A way of quantising: its settings, and the method of each layer."""

    weight_block_size: list[int] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.packed_modules_mapping: dict[str, list[str]] = {}

    @abstractmethod
    def get_name(self) -> str:
        """Its name."""

    @abstractmethod
    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """The dtypes that activations may have."""

    @classmethod
    @abstractmethod
    def get_min_capability(cls) -> int:
        """The least compute capability of a CUDA device that serves it."""

    @staticmethod
    @abstractmethod
    def get_config_filenames() -> list[str]:
        """The files in a model's folder that may have its settings."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizationConfig:
        """Make it of a model's settings."""

    @classmethod
    def override_quantization_method(cls, hf_quant_cfg: Any, user_quant: Any) -> str | None:
        """The way to take for a model of another one, or None."""
        return None

    @staticmethod
    def get_from_keys(config: Mapping[str, Any], keys: Sequence[str]) -> Any:
        """The value of the first key that there is; raises ValueError where there is none."""
        for key in keys:
            if key in config:
                return config[key]
        raise ValueError(f"the model's quantization settings have none of {', '.join(keys)}")

    @staticmethod
    def get_from_keys_or(config: Mapping[str, Any], keys: Sequence[str], default: Any) -> Any:
        """The value of the first key that there is, or a default."""
        return next((config[key] for key in keys if key in config), default)

    @abstractmethod
    def get_quant_method(self, layer: nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """The method of a layer by its name in the model; None leaves it as it is."""

    @abstractmethod
    def get_scaled_act_names(self) -> list[str]:
        """The activations whose output is to be scaled."""


def method_has_implemented_embedding(method_class: type[QuantizeMethodBase]) -> bool:
    """Whether a method can look rows up, as an embedding must."""
    return inspect.getattr_static(method_class, "embedding", None) is not None
