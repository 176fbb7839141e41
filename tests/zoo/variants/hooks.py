"""Other right hooks."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_REGISTER = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_PLATFORM = "sglang.srt.platforms.interface.SRTPlatform"
_CONDUCT = ("HOOK-012", "HOOK-014", "HOOK-018", "HOOK-024", "HOOK-025", "HOOK-026", "HOOK-027")


def _hooks(more: str, helpers: str = "") -> tuple[Edit, ...]:
    """The hook plugin with something done after its own registration, and helpers in its module."""
    return (Edit("hooks.py", _REGISTER, _REGISTER + more), Edit("hooks.py", "", helpers))


VARIANTS = (
    Variant(
        "replacing-class-with-a-recursion-that-ends",
        ("HOOK-018",),
        _hooks(
            '    HookRegistry.register("sglang.srt.environ.EnvField", Field, HookType.REPLACE)\n',
            "\n\nfrom sglang.srt.environ import EnvField\n\n\nclass Field(EnvField):\n"
            "    def depth(self, n: int) -> int:\n        return 0 if n == 0 else 1 + Field.depth(self, n - 1)\n\n"
            "    def get(self):\n        if getattr(self, 'busy', False):\n            return super().get()\n"
            "        self.busy = True\n        try:\n            return EnvField.get(self)\n"
            "        finally:\n            self.busy = False\n",
        ),
        "SGLang rebinds names; a call by name that comes back once and then ends is no fault",
    ),
    Variant(
        "around-hook-guarded-against-itself",
        ("HOOK-018", "HOOK-026"),
        _hooks(
            "    HookRegistry.register(TARGET, guarded, HookType.AROUND)\n",
            "\n\nimport threading\n\nfrom sglang.srt.distributed.parallel_state import "
            "get_default_distributed_backend\n\n_busy = threading.local()\n\n\ndef guarded(original, device):\n"
            "    if getattr(_busy, 'on', False):\n        return original(device)\n    _busy.on = True\n"
            "    try:\n        return get_default_distributed_backend(device)\n"
            "    finally:\n        _busy.on = False\n",
        ),
        "the name leads back to the hook, which then calls the original (0.5.23, srt/plugins/hook_registry.py)",
    ),
    Variant(
        "hook-guarded-by-a-decorator",
        ("HOOK-018",),
        _hooks(
            "    HookRegistry.register(TARGET, guarded, HookType.AROUND)\n",
            "\n\nimport functools\n\nfrom sglang.srt.distributed.parallel_state import "
            "get_default_distributed_backend\n\n\ndef once(hook):\n    busy = []\n\n"
            "    @functools.wraps(hook)\n    def wrapper(original, device):\n        if busy:\n"
            "            return original(device)\n        busy.append(1)\n        try:\n"
            "            return hook(original, device)\n        finally:\n            busy.pop()\n\n"
            "    return wrapper\n\n\n@once\ndef guarded(original, device):\n"
            "    return get_default_distributed_backend(device)\n",
        ),
        "what SGLang calls is the decorator's function, which lets the call through once",
    ),
    Variant(
        "hook-on-sglangs-kernel-package",
        ("HOOK-012", "HOOK-016"),
        (
            *_hooks(
                '    HookRegistry.register("sgl_kernel.silu_and_mul", silu_and_mul, HookType.REPLACE)\n',
                "\n\ndef silu_and_mul(x, out=None):\n    return x\n",
            ),
            Edit("../sgl_kernel/__init__.py", "", "def silu_and_mul(x, out=None):\n    return x\n"),
        ),
        "sgl_kernel is the project's own, and what its layers call (0.5.23, srt/layers/activation.py)",
    ),
    Variant(
        "hooks-of-several-releases",
        ("HOOK-012",),
        _hooks(
            f'    HookRegistry.register("{_PLATFORM}.support_cuda_graph", note)\n'
            '    HookRegistry.register("sglang.srt.platforms.backends.get_default_distributed_backend", note)\n'
            "    HookRegistry.register(TARGET, note)\n",
            "\n\ndef note(result, *args, **kwargs):\n    return None\n",
        ),
        "SGLang logs the target that it lacks and applies the other (0.5.23, srt/plugins/hook_registry.py:166)",
    ),
    Variant(
        "hooks-without-a-source",
        (*_CONDUCT, "HOOK-013", "HOOK-015", "HOOK-019"),
        _hooks(
            "    import functools\n    import operator\n"
            "    made = {}\n"
            "    exec('def around(original, *a, **k): return original(*a, **k)', made)\n"
            "    HookRegistry.register(TARGET, made['around'], HookType.AROUND)\n"
            "    HookRegistry.register(TARGET, getattr(operator, 'call', made['around']), HookType.AROUND)\n"
            "    HookRegistry.register(TARGET, functools.partial(named, 'acme'), HookType.AROUND)\n"
            "    HookRegistry.register(TARGET, Quiet(), HookType.AFTER)\n"
            "    HookRegistry.register(TARGET, Quiet().note, HookType.BEFORE)\n"
            "    HookRegistry.register(TARGET, lambda result, device: result, HookType.AFTER)\n",
            "\n\ndef named(name, original, device):\n    return original(device)\n\n\nclass Quiet:\n"
            "    def __call__(self, result, *args, **kwargs):\n        return None\n\n"
            "    def note(self, *args, **kwargs):\n        return args, kwargs\n",
        ),
        "SGLang calls whatever can be called",
    ),
    Variant(
        "hooks-that-change-calls",
        (*_CONDUCT, "HOOK-028"),
        _hooks(
            f'    HookRegistry.register("{_PLATFORM}.apply_server_args_defaults", first, HookType.BEFORE)\n'
            f'    HookRegistry.register("{_PLATFORM}.apply_server_args_defaults", around, HookType.AROUND)\n'
            f'    HookRegistry.register("{_PLATFORM}.supports_speculative_algorithm", always, HookType.AFTER)\n'
            f'    HookRegistry.register("{_PLATFORM}.supports_speculative_algorithm", fixed, HookType.AROUND)\n',
            "\n\ndef first(self, server_args):\n    if server_args is None:\n        return None\n"
            "    return (self, server_args), {}\n\n\n"
            "def around(original, self, server_args, **unused):\n    return original(self, server_args)\n\n\n"
            "def always(result, *args, **kwargs):\n    return False\n\n\n"
            "def fixed(original, self, *args, **kwargs):\n    return original(self, 'EAGLE')\n",
        ),
        "each gives SGLang what it takes of a hook of its kind (0.5.23, srt/plugins/hook_registry.py)",
    ),
    Variant(
        "register-imports-what-it-needs",
        ("HOOK-020",),
        _hooks(
            "    import multiprocessing.pool\n    import torch._dynamo\n    import torch.distributed.tensor\n"
            "    import torch.utils.cpp_extension\n"
        ),
        "an import changes nothing that was there",
    ),
)
