"""Wrong hook plugins, and plugins that break the hooks of others."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_REGISTER = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_DEFAULTS = "sglang.srt.platforms.interface.SRTPlatform.apply_server_args_defaults"
_SUPPORTS = "sglang.srt.platforms.interface.SRTPlatform.supports_speculative_algorithm"
_OF_THE_PAST = "sglang.srt.platforms.interface.SRTPlatform.support_cuda_graph"


def _hooks(more: str, *, first: str = "", helpers: str = "") -> tuple[Edit, ...]:
    """The hook plugin with something done after its own registration or before it, and helpers in its module."""
    return (Edit("hooks.py", _REGISTER, first + _REGISTER + more), Edit("hooks.py", "", helpers))


DEFECTS = (
    Defect("hook-plugin-raises", "HOOK-010", _hooks("    raise RuntimeError('no driver')\n")),
    Defect(
        "hook-plugin-needs-an-absent-module",
        "HOOK-010",
        (Edit("hooks.py", "from collections.abc import Callable\n", "import acme_runtime\n"),),
    ),
    Defect(
        "second-platform-in-the-distribution",
        "HOOK-011",
        (
            Edit("entry_points.txt", "[sglang.srt.plugins]", "acme_two = acme:absent\n[sglang.srt.plugins]"),
            Edit("__init__.py", "", "\n\ndef absent() -> None:\n    return None\n"),
        ),
    ),
    Defect(
        "hook-target-misspelt",
        "HOOK-012",
        _hooks(f'    HookRegistry.register("{_DEFAULTS}s", print)\n'),
    ),
    Defect(
        "hook-target-in-a-module-that-is-gone",
        "HOOK-012",
        _hooks('    HookRegistry.register("sglang.srt.platforms.registry.resolve", print)\n'),
    ),
    Defect(
        "around-hook-on-a-class",
        "HOOK-012",
        _hooks('    HookRegistry.register("sglang.srt.environ.EnvField", backend_of_acme, HookType.AROUND)\n'),
    ),
    Defect(
        "hook-registered-when-the-platform-is-imported",
        "HOOK-013",
        (
            Edit(
                "platform.py",
                "",
                "\n\nfrom sglang.srt.plugins.hook_registry import plugin_hook\n\n\n"
                f'@plugin_hook("{_DEFAULTS}")\ndef after_defaults(result, self, server_args):\n    return None\n',
            ),
        ),
    ),
    Defect(
        "hooked-function-set-again-by-the-platform",
        "HOOK-013",
        (
            Edit(
                "platform.py",
                "",
                "\n\nfrom sglang.srt.distributed import parallel_state\n\n"
                "parallel_state.get_default_distributed_backend = lambda device: 'gloo'\n",
            ),
        ),
        also=("BE-005",),
        release="0.5.11",
    ),
    Defect(
        "hook-without-the-targets-arguments",
        "HOOK-014",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", note_defaults, HookType.BEFORE)\n',
            helpers="\n\ndef note_defaults(self):\n    return None\n",
        ),
    ),
    Defect(
        "after-hook-without-the-result",
        "HOOK-014",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", after_defaults)\n',
            helpers="\n\ndef after_defaults(self, server_args):\n    return None\n",
        ),
    ),
    Defect(
        "hook-with-arguments-of-other-names",
        "HOOK-015",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", note_defaults, HookType.BEFORE)\n',
            helpers="\n\ndef note_defaults(platform, args):\n    return None\n",
        ),
    ),
    Defect(
        "hook-on-another-library",
        "HOOK-016",
        _hooks('    HookRegistry.register("textwrap.shorten", lambda *a, **k: None)\n'),
    ),
    Defect(
        "unrelated-class-replaces-sglangs",
        "HOOK-017",
        _hooks(
            '    HookRegistry.register("sglang.srt.environ.EnvField", Field, HookType.REPLACE)\n',
            helpers="\n\nclass Field:\n    def __init__(self, default):\n        self.default = default\n",
        ),
    ),
    Defect(
        "replacing-class-calls-itself",
        "HOOK-018",
        _hooks(
            '    HookRegistry.register("sglang.srt.environ.EnvField", Field, HookType.REPLACE)\n',
            helpers="\n\nfrom sglang.srt.environ import EnvField\n\n\nclass Field(EnvField):\n"
            "    def get(self):\n        return EnvField.get(self) or ''\n",
        ),
    ),
    Defect(
        "hook-calls-its-target-by-name",
        "HOOK-018",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", defaults, HookType.REPLACE)\n',
            helpers="\n\nfrom sglang.srt.platforms.interface import SRTPlatform\n\n\n"
            "def defaults(self, server_args):\n    SRTPlatform.apply_server_args_defaults(self, server_args)\n",
        ),
    ),
    Defect("hook-registered-twice", "HOOK-019", _hooks(_REGISTER)),
    Defect(
        "function-of-sglang-patched-past-the-registry",
        "HOOK-020",
        _hooks(
            "    from sglang.srt.platforms.interface import SRTPlatform\n"
            "    SRTPlatform.apply_server_args_defaults = lambda self, server_args: None\n"
        ),
    ),
    Defect(
        "hooks-only-in-the-first-process-by-the-environment",
        "HOOK-021",
        _hooks(
            "",
            first="    import os\n    if os.environ.get('ACME_HOOKED'):\n        return\n"
            "    os.environ['ACME_HOOKED'] = '1'\n",
        ),
    ),
    Defect(
        "hooks-only-in-the-main-process",
        "HOOK-021",
        _hooks(
            "",
            first="    import multiprocessing\n    if multiprocessing.parent_process() is not None:\n        return\n",
        ),
    ),
    Defect(
        "hooks-need-the-variable-that-selects-a-platform",
        "HOOK-022",
        _hooks("", first="    import os\n    if os.environ.get('SGLANG_PLATFORM') != 'acme':\n        return\n"),
    ),
    Defect(
        "hooks-fail-without-their-platform",
        "HOOK-023",
        _hooks(
            "",
            first="    from sglang.srt.platforms import current_platform\n"
            "    if current_platform.device_name != 'acme':\n        raise RuntimeError('no Acme device')\n",
        ),
    ),
    Defect("hooks-reset-the-registry", "HOOK-006", _hooks("", first="    HookRegistry.reset()\n")),
    Defect("hooks-applied-early", "HOOK-006", _hooks("    HookRegistry.apply_hooks()\n")),
    Defect(
        "registry-patched-so-that-late-hooks-go-inside",
        "HOOK-001",
        _hooks(
            "    register = HookRegistry.register\n"
            "    def inside(target, *args, **kwargs):\n"
            "        register(target, *args, **kwargs)\n"
            "        HookRegistry._hooks[target].insert(0, HookRegistry._hooks[target].pop())\n"
            "    HookRegistry.register = inside\n"
        ),
        also=("HOOK-003", "HOOK-005", "HOOK-006", "HOOK-020"),
    ),
    Defect(
        "registry-made-blind-to-modules",
        "HOOK-002",
        _hooks(
            "    import types\n    from sglang.srt.plugins import hook_registry\n"
            "    hook_registry.sys = types.SimpleNamespace(modules={})\n"
        ),
        also=("HOOK-003",),
    ),
    Defect(
        "registry-wraps-replacing-classes-in-functions",
        "HOOK-003",
        _hooks(
            "    register = HookRegistry.register\n"
            "    def plain(target, hook, hook_type=HookType.AFTER, **kwargs):\n"
            "        whole = isinstance(hook, type) and hook_type is HookType.REPLACE\n"
            "        register(target, (lambda *a, **k: hook(*a, **k)) if whole else hook, hook_type, **kwargs)\n"
            "    HookRegistry.register = plain\n"
        ),
        also=("HOOK-020",),
    ),
    Defect(
        "registry-swallows-errors",
        "HOOK-004",
        _hooks(
            "    import contextlib\n"
            "    register = HookRegistry.register\n"
            "    def quiet(*args, **kwargs):\n"
            "        with contextlib.suppress(TypeError):\n"
            "            register(*args, **kwargs)\n"
            "    HookRegistry.register = quiet\n"
        ),
        also=("HOOK-020",),
    ),
    Defect(
        "registry-applies-everything-again",
        "HOOK-005",
        _hooks(
            "    apply = HookRegistry.apply_hooks\n"
            "    def again():\n"
            "        HookRegistry._patched.clear()\n"
            "        apply()\n"
            "    HookRegistry.apply_hooks = again\n"
        ),
        also=("HOOK-020",),
    ),
    Defect(
        "loading-patched-to-ignore-the-allowlist",
        "HOOK-007",
        _hooks(
            "    import os\n    from sglang.srt import plugins\n"
            "    load = plugins.load_plugins_by_group\n"
            "    def everything(group, excluded_dists=None):\n"
            "        listed = os.environ.pop('SGLANG_PLUGINS', None)\n"
            "        try:\n            return load(group, excluded_dists=excluded_dists)\n"
            "        finally:\n            listed is None or os.environ.update(SGLANG_PLUGINS=listed)\n"
            "    plugins.load_plugins_by_group = everything\n"
        ),
        also=("HOOK-020",),
    ),
    Defect(
        "torch-patched-while-hooks-are-registered",
        "HOOK-020",
        _hooks("    import torch\n    torch.cuda.is_available = lambda: True\n"),
    ),
    Defect(
        "device-started-while-hooks-are-registered",
        "HOOK-020",
        _hooks("    import torch\n    torch.cuda._initialized = True\n"),
    ),
    Defect(
        "default-type-changed-while-hooks-are-registered",
        "HOOK-020",
        _hooks("    import torch\n    torch.set_default_dtype(torch.bfloat16)\n"),
    ),
    Defect(
        "coroutine-around-an-ordinary-method",
        "HOOK-024",
        _hooks(
            f'    HookRegistry.register("{_SUPPORTS}", supports, HookType.AROUND)\n',
            helpers="\n\nasync def supports(original, *args, **kwargs):\n    return original(*args, **kwargs)\n",
        ),
        also=("CAP-010",),
    ),
    Defect(
        "coroutine-before",
        "HOOK-024",
        _hooks(
            f'    HookRegistry.register("{_SUPPORTS}", note, HookType.BEFORE)\n',
            helpers="\n\nasync def note(*args, **kwargs):\n    return None\n",
        ),
        also=("CAP-010",),
    ),
    Defect(
        "before-hook-returns-its-arguments-only",
        "HOOK-025",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", note, HookType.BEFORE)\n',
            helpers="\n\ndef note(*args, **kwargs):\n    return args\n",
        ),
    ),
    Defect(
        "before-hook-returns-three",
        "HOOK-025",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", note, HookType.BEFORE)\n',
            helpers="\n\ndef note(self, server_args):\n    return self, server_args, {}\n",
        ),
    ),
    Defect(
        "around-hook-drops-keywords",
        "HOOK-026",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", drop, HookType.AROUND)\n',
            helpers="\n\ndef drop(original, *args, **kwargs):\n    return original(*args)\n",
        ),
    ),
    Defect(
        "around-hook-drops-what-comes-by-position",
        "HOOK-026",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", drop, HookType.AROUND)\n',
            helpers="\n\ndef drop(original, self, *args, **kwargs):\n    return original(self, **kwargs)\n",
        ),
    ),
    Defect(
        "after-hook-says-done",
        "HOOK-027",
        _hooks(
            f'    HookRegistry.register("{_DEFAULTS}", done, HookType.AFTER)\n',
            helpers="\n\ndef done(result, *args, **kwargs):\n    return True\n",
        ),
    ),
    Defect(
        "hook-on-a-member-of-another-release",
        "HOOK-028",
        _hooks(f'    HookRegistry.register("{_OF_THE_PAST}", lambda result, *a, **k: None)\n'),
    ),
)
