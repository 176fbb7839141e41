"""What the arguments' model is, read once of its configuration."""

from __future__ import annotations

from typing import Any


def model_config_of(arguments: Any) -> Any:
    """The ModelConfig of the arguments; kept on the object that they are."""
    kept = getattr(arguments, "_model_config", None)
    if kept is None:
        from ..configs.model_config import ModelConfig

        kept = ModelConfig.from_server_args(arguments)
        arguments._model_config = kept
    return kept


def uses_mla(arguments: Any) -> bool:
    """Whether the model has multi-head latent attention."""
    from ..configs.model_config import AttentionArch

    return bool(model_config_of(arguments).attention_arch == AttentionArch.MLA)
