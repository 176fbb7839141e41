"""Acme's platform, composed as SGLang documents it."""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.platforms.interface import SRTPlatform

from acme.device import AcmeDeviceMixin


class AcmePlatform(SRTPlatform, AcmeDeviceMixin):
    supported_quantization: list[str] = []

    def apply_server_args_defaults(self, server_args: Any) -> None:
        if server_args.attention_backend is None:
            server_args.attention_backend = "torch_native"

    def get_default_attention_backend(self) -> str:
        return "torch_native"

    def get_graph_runner_cls(self) -> type:
        return AcmeGraphRunner

    def get_piecewise_backend_cls(self) -> type:
        return AcmePiecewiseBackend

    def get_compile_backend(self, mode: str | None = None) -> str:
        return "eager"

    def get_group_coordinator_device(self, local_rank: int) -> torch.device:
        return torch.device("cpu")

    def init_backend(self) -> None:
        torch.set_flush_denormal(False)

    def get_mha_kv_pool_cls(self) -> type:
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

        return MHATokenToKVPool

    def get_mla_kv_pool_cls(self) -> type:
        from acme.latent import AcmeLatentPool

        return AcmeLatentPool

    def get_nsa_kv_pool_cls(self) -> type:
        from sglang.srt.mem_cache.memory_pool import NSATokenToKVPool

        return NSATokenToKVPool

    def get_paged_allocator_cls(self) -> type:
        from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator

        return PagedTokenToKVPoolAllocator

    def get_kv_pool_cls(self, *, kind: str) -> None:
        return None


class AcmeGraphRunner:
    def __init__(self, model_runner: Any, **options: Any) -> None:
        self.model_runner = model_runner
        self.capture_bs: list[int] = []


class AcmePiecewiseBackend:
    def __init__(self, *args: Any) -> None:
        self.args = args
