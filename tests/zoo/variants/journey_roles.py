"""Other right ways to be several processes."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_DEADLINE = 30.0
_PLATFORM, _HOOKS, _START = "platform.py", "hooks.py", "        torch.set_flush_denormal(False)\n"
_REGISTER = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_FIRST = ("JOUR-050", "JOUR-051", "JOUR-052", "JOUR-053")
_ALL = (*_FIRST, "JOUR-054", "JOUR-055", "JOUR-056", "JOUR-057", "JOUR-058", "ARG-016")


def _hooks(name: str, requirements: tuple[str, ...], register: str, more: str, why: str) -> Variant:
    """One more thing that is done while hooks are registered, with what it needs below."""
    lines = "".join(f"    {line}\n" for line in register.splitlines())
    edits = (Edit(_HOOKS, _REGISTER, _REGISTER + lines), Edit(_HOOKS, "", more))
    return Variant(name, requirements, edits, why, deadline=_DEADLINE)


VARIANTS: tuple[Variant, ...] = (
    _hooks(
        "hooks-only-for-its-own-platform",
        (*_FIRST, "JOUR-054"),
        "from sglang.srt.platforms import current_platform\n\n"
        'if current_platform.is_out_of_tree() and current_platform.device_name == "acme":\n'
        '    HookRegistry.register("sglang.srt.managers.scheduler.Scheduler.get_init_info", told, HookType.AFTER)',
        "\n\ndef told(info: dict[str, object], *args: object, **kwargs: object) -> dict[str, object]:\n"
        '    return {**info, "device": "acme"}\n',
        "what the platform is may be asked by then: SGLang resolves it when it is first asked for, and a plugin that "
        "shares its process with other platforms must ask (0.5.23, srt/platforms/__init__.py)",
    ),
    _hooks(
        "memory-is-answered-by-a-hook",
        (*_FIRST, "JOUR-054", "JOUR-056"),
        'HookRegistry.register("sglang.srt.utils.common.get_available_gpu_memory", free, HookType.AROUND)',
        "\n\ndef free(original: Callable[..., float], *args: object, **kwargs: object) -> float:\n    return 4.0\n",
        "before there were members for it, plugins answered in the place of SGLang's function, in GiB (0.5.11, "
        "srt/utils/common.py), and the core then asks no platform",
    ),
    _hooks(
        "the-scheduler-is-a-class-of-its-own",
        ("JOUR-051", "JOUR-054", "JOUR-055", "JOUR-056", "JOUR-057"),
        "from sglang.srt.managers import scheduler\n\n"
        "class AcmeScheduler(scheduler.Scheduler):\n"
        "    pass\n\n"
        'HookRegistry.register("sglang.srt.managers.scheduler.Scheduler", AcmeScheduler, HookType.REPLACE)',
        "",
        "a class may be put in the place of SGLang's (0.5.23, srt/plugins/hook_registry.py)",
    ),
    Variant(
        "workers-have-helpers-that-end-with-them",
        _ALL,
        (
            Edit(
                _PLATFORM,
                _START,
                f"{_START}"
                "        import atexit\n"
                "        import subprocess\n"
                "        import threading\n\n"
                "        threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
                '        helper = subprocess.Popen(["sleep", "60"])\n'
                "        atexit.register(helper.wait)\n"
                "        atexit.register(helper.kill)\n",
            ),
        ),
        "a worker is the vendor's as long as it lives; nothing of it is left when it has ended",
        deadline=_DEADLINE,
    ),
    Variant(
        "defaults-stay-out-of-what-the-user-asked",
        ("JOUR-053", "JOUR-054", "ARG-016"),
        (
            Edit(
                _PLATFORM,
                "    def apply_server_args_defaults(self, server_args: Any) -> None:\n",
                "    def apply_server_args_defaults(self, server_args: Any) -> None:\n"
                "        if server_args.chunked_prefill_size is None:\n"
                "            server_args.chunked_prefill_size = 64\n"
                "        self.settled = server_args.chunked_prefill_size\n",
            ),
        ),
        "what it keeps of the arguments on itself stays in the launching process, and nothing asks for it elsewhere",
        deadline=_DEADLINE,
    ),
)
