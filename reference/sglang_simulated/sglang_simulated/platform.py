"""The platform: the class whose name ``activate()`` gives, and SGLang's only way to the device."""
# mypy: disable-error-code="import-not-found, import-untyped, misc"

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.platforms.interface import SRTPlatform

from sglang_simulated import attention
from sglang_simulated.device_mixin import SimDeviceMixin
from sglang_simulated.releases import ReleaseHooks, admit
from sglang_simulated.runtime import runtime

ATTENTION_BACKEND = attention.NAME


# The order of the bases matters. SRTPlatform carries defaults for some device methods: standing first, its defaults
# would be found before the mixin's methods.
class SimSRTPlatform(SimDeviceMixin, ReleaseHooks, SRTPlatform):
    """The simulated accelerator, as SGLang's serving runtime sees it.

    Made without arguments when SGLang first asks for its platform, in every process. So it holds no state and
    starts nothing; a worker process starts the device through :meth:`init_backend`.
    """

    supported_quantization: list[str] = []

    def init_backend(self) -> None:
        """Make torch know the device and its collectives, SGLang its attention. Called in each worker, maybe again."""
        from sglang_simulated import device, distributed

        device.register()
        distributed.register()
        attention.register()
        admit(self.device_type)

    def apply_server_args_defaults(self, server_args: Any) -> None:
        """Choose what the user left open, and nothing else: ``attention_backend``, when unset."""
        if getattr(server_args, "attention_backend", None) is None:
            server_args.attention_backend = self.attention_for(server_args)
            attention.register()

    # Factories return a class or a name, and leave making the object to SGLang.

    def get_default_attention_backend(self) -> str:
        """The attention whose decoding can be captured: with SGLang's own in torch, SGLang captures no graph."""
        attention.register()
        return ATTENTION_BACKEND

    def get_graph_runner_cls(self) -> type:
        """The runner of decode graphs; SGLang calls it with its model runner."""
        from sglang_simulated.graph_runner import SimGraphRunner

        return SimGraphRunner

    def get_full_graph_backend_cls(self) -> type:
        """What captures and replays graphs for SGLang's own runners (since 0.5.21)."""
        from sglang_simulated.graph_runner import SimGraphBackend

        return SimGraphBackend

    def get_piecewise_backend_cls(self) -> type | None:
        """None: capturing prefill in pieces is not declared, so SGLang does not come here."""
        return None

    def get_compile_backend(self, mode: str | None = None) -> str:
        """The backend for torch.compile, whatever the ``mode``: "inductor", the default, has no code for us."""
        return "eager"

    def get_quantization_config(self, quantization: str) -> type | None:
        """None: SGLang's own configuration of every scheme."""
        return None

    def get_dispatch_key_name(self) -> str:
        """Which ``forward_<key>`` of SGLang's operators to run: the one in plain torch, which the device runs.

        A vendor with kernels answers a key of its own and registers them with ``register_oot_forward``; an operator
        without one falls back to ``forward_native``.
        """
        return "native"

    def get_group_coordinator_device(self, local_rank: int) -> torch.device:
        """The device that a group's tensors live on, for this rank (since 0.5.23).

        The base class answers the CPU, which would send the group's collectives to gloo. RuntimeError where this
        machine lacks the device.
        """
        self.init_backend()
        return torch.device("sim", runtime().index_of(local_rank))
