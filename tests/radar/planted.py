"""The simulated plugin as if made for SGLang 0.5.11: right there, and wrong in one place after the other since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.workshop import Edit

Expected = tuple[str, str, str, str]
"""Kind, severity, subject and release of a finding."""


@dataclass(frozen=True)
class Planted:
    """One change to the plugin, and what is to be found of it on 0.5.23; nothing on 0.5.11."""

    edits: tuple[Edit, ...]
    expected: tuple[Expected, ...]


def _hook(target: str, kind: str, parameters: str) -> tuple[Edit, ...]:
    name = "planted_" + target.rpartition(".")[2].strip("_") + str(len(target))
    register = f'    HookRegistry.register("{target}", {name}, HookType.{kind})\n'
    above = "    HookRegistry.register(BACKEND_OF_DEVICE,"
    return (
        Edit("hooks.py", above, register + above),
        Edit("hooks.py", "", f"\n\ndef {name}{parameters}:\n    return None\n"),
    )


_PLATFORM = "from sglang_simulated.device_mixin import SimDeviceMixin\n"
_DEFAULTS = """\
        if getattr(server_args, "attention_backend", None) is None:
            server_args.attention_backend = self.attention_for(server_args)
            attention.register()
"""
_MODEL_RUNNER, _OVERLAP = "sglang.srt.model_executor.model_runner.ModelRunner", "sglang.srt.managers.overlap_utils"
_TEMPLATES = "sglang.srt.managers.template_manager"
_PARALLEL = "sglang.srt.distributed.parallel_state.initialize_model_parallel"


def _in_defaults(lines: str) -> Edit:
    return Edit("platform.py", _DEFAULTS, _DEFAULTS + lines)


PLANTED: Sequence[Planted] = (
    Planted(
        # The flags and pools of 0.5.11 for every release.
        (
            Edit(
                "releases.py",
                "ReleaseHooks: Any = _AnswersFlags if PlatformCapabilities is None else _DeclaresCapabilities",
                "ReleaseHooks: Any = _AnswersFlags",
            ),
        ),
        (
            ("unread", "dies silently", "support_cuda_graph", "0.5.22"),
            ("superseded", "deprecated", "support_piecewise_cuda_graph", "0.5.22"),
            ("superseded", "deprecated", "supports_fp8", "0.5.22"),
            ("superseded", "deprecated", "get_mha_kv_pool_cls", "0.5.22"),
            ("superseded", "deprecated", "get_mla_kv_pool_cls", "0.5.22"),
            ("superseded", "deprecated", "get_dsa_kv_pool_cls", "0.5.22"),
        ),
    ),
    Planted(
        (
            Edit(
                "device_mixin.py",
                "def is_pin_memory_available(self, device: DeviceLike = None)",
                "def is_pin_memory_available(self)",
            ),
        ),
        (("signature", "breaks", "is_pin_memory_available", "0.5.16"),),
    ),
    Planted(
        (Edit("platform.py", _PLATFORM, f"from {_TEMPLATES} import TemplateManager\n{_PLATFORM}"),),
        (("import", "breaks", _TEMPLATES, "0.5.16"),),
    ),
    Planted(
        (_in_defaults(f"        from {_OVERLAP} import FutureIndices\n"),),
        (("import", "breaks", f"{_OVERLAP}.FutureIndices", "0.5.13"),),
    ),
    Planted(
        (
            _in_defaults(
                "        if server_args.planted:\n            from sglang.srt.layers.attention import nsa_backend\n"
            ),
        ),
        (("import", "may break", "sglang.srt.layers.attention.nsa_backend", "0.5.21"),),
    ),
    Planted(
        (_in_defaults("        import os\n\n        os.environ.get('SGLANG_CUTLASS_MOE')\n"),),
        (("variable", "deprecated", "SGLANG_CUTLASS_MOE", "0.5.21"),),
    ),
    Planted(
        (_in_defaults("        from sglang.srt.layers.utils.multi_platform import MultiPlatformOp\n"),),
        (("deprecated", "deprecated", "sglang.srt.layers.utils.multi_platform.MultiPlatformOp", "0.5.21"),),
    ),
    Planted(
        (
            _in_defaults(
                "        from sglang.srt.distributed.parallel_state import initialize_model_parallel\n\n"
                "        initialize_model_parallel(tensor_model_parallel_size=2)\n"
            ),
        ),
        (("call", "breaks", f"{_PARALLEL}(tensor_model_parallel_size)", "0.5.21"),),
    ),
    Planted(
        (
            _in_defaults(
                "        from sglang.srt.managers import scheduler\n\n"
                "        scheduler.Scheduler.process_batch_result_decode = None\n"
            ),
        ),
        (("patch", "dies silently", "sglang.srt.managers.scheduler.Scheduler.process_batch_result_decode", "0.5.13"),),
    ),
    Planted(
        (
            _in_defaults(
                "        from sglang.srt.mem_cache import memory_pool\n\n        print(memory_pool.NSATokenToKVPool)\n"
            ),
        ),
        (("attribute", "breaks", "sglang.srt.mem_cache.memory_pool.NSATokenToKVPool", "0.5.13"),),
    ),
    Planted(
        _hook(f"{_MODEL_RUNNER}.init_memory_pool", "AROUND", "(original, *args, **kwargs)"),
        (("hook target", "dies silently", f"{_MODEL_RUNNER}.init_memory_pool", "0.5.16"),),
    ),
    Planted(
        _hook(f"{_TEMPLATES}.TemplateManager.load_chat_template", "AFTER", "(result, *args, **kwargs)"),
        (("hook target", "dies silently", f"{_TEMPLATES}.TemplateManager.load_chat_template", "0.5.16"),),
    ),
    Planted(
        _hook(
            f"{_OVERLAP}.FutureMap.__init__",
            "BEFORE",
            "(self, max_running_requests, chunked_prefill_size, context_len, device, spec_algo=None)",
        ),
        (("hook parameters", "may break", f"{_OVERLAP}.FutureMap.__init__", "0.5.13"),),
    ),
    Planted(
        (
            Edit(
                "device_mixin.py",
                "def get_device_uuid(self, device_id: int = 0)",
                "def _get_uuid(self, device_id: int = 0)",
            ),
        ),
        (("reachable", "reachable", "get_device_uuid", "0.5.21"),),
    ),
    Planted(
        # A pool for multi-head attention stands in for the latent one: nobody asks until 0.5.22.
        (
            Edit(
                "releases.py",
                "        return _latent_pool()\n",
                "        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool\n\n"
                "        class Planted(MHATokenToKVPool): ...\n\n        return Planted\n",
            ),
        ),
        (("factory", "breaks", "get_mla_kv_pool_cls(mla)", "0.5.22"),),
    ),
)
