"""Acme's hooks on SGLang."""

from __future__ import annotations

from collections.abc import Callable

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

TARGET = "sglang.srt.distributed.parallel_state.get_default_distributed_backend"


def register() -> None:
    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)


def backend_of_acme(original: Callable[[str], str], device: str) -> str:
    return "gloo" if device == "acme" else original(device)
