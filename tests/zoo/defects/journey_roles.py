"""Plugins that are right in one process, and wrong where a server is several."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_DEADLINE = 30.0
_PLATFORM, _HOOKS, _START = "platform.py", "hooks.py", "        torch.set_flush_denormal(False)\n"
_IMPORTS = "import torch\nfrom sglang.srt.platforms.interface"
_SETTLED = "    def apply_server_args_defaults(self, server_args: Any) -> None:\n"
_REGISTER = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_SPAWNED = "multiprocessing.parent_process() is not None"


def _in_workers(name: str, requirement: str, lines: str, also: tuple[str, ...] = (), release: str = "0.5.23") -> Defect:
    """A right start of the device, with something wrong behind it in processes that were spawned."""
    body = "".join(f"            {line}\n" for line in lines.splitlines())
    changes = (
        Edit(_PLATFORM, _IMPORTS, f"import multiprocessing\nimport os\n\n{_IMPORTS}"),
        Edit(_PLATFORM, _START, f"{_START}        if {_SPAWNED}:\n{body}"),
    )
    return Defect(name, requirement, changes, also=also, deadline=_DEADLINE, release=release)


def _while_settling(
    name: str, requirement: str, lines: str, also: tuple[str, ...] = (), release: str = "0.5.23"
) -> Defect:
    """A right choice of defaults, with something wrong before it."""
    body = "".join(f"        {line}\n" for line in lines.splitlines())
    return Defect(
        name, requirement, (Edit(_PLATFORM, _SETTLED, _SETTLED + body),), also=also, deadline=_DEADLINE, release=release
    )


def _hooks(name: str, requirement: str, *edits: Edit, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, edits, also=also, deadline=_DEADLINE)


def _hooked(target: str, body: str) -> Edit:
    """One more hook, before a function of SGLang's."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return Edit(
        _HOOKS,
        _REGISTER,
        f'{_REGISTER}    HookRegistry.register("{target}", further, HookType.BEFORE)\n\n\n'
        f"def further(*args: object, **kwargs: object) -> None:\n{lines}",
    )


DEFECTS = (
    _hooks(
        "hooks-ask-for-the-platform-while-imported",
        "JOUR-050",
        Edit(
            _HOOKS,
            "from sglang.srt.plugins.hook_registry import HookRegistry, HookType\n",
            "from sglang.srt.platforms import current_platform\n"
            "from sglang.srt.plugins.hook_registry import HookRegistry, HookType\n\n"
            "NAME = current_platform.device_name\n",
        ),
    ),
    _hooks(
        "hooks-use-the-platform-while-registered",
        "JOUR-050",
        Edit(
            _HOOKS,
            _REGISTER,
            "    from sglang.srt.platforms import current_platform\n\n"
            f"    current_platform.get_device_name(0)\n{_REGISTER}",
        ),
    ),
    _hooks(
        "hooks-are-registered-in-the-main-process-only",
        "JOUR-051",
        Edit(
            _HOOKS,
            _REGISTER,
            "    import multiprocessing\n\n"
            f'    if multiprocessing.current_process().name == "MainProcess":\n    {_REGISTER}',
        ),
    ),
    Defect(
        "another-class-in-processes-that-were-spawned",
        "JOUR-052",
        (
            Edit(
                "__init__.py",
                '    return "acme.platform.AcmePlatform"\n',
                "    import multiprocessing\n\n"
                f'    return "acme.platform.{{}}".format("AcmeWorker" if {_SPAWNED} else "AcmePlatform")\n',
            ),
            Edit(_PLATFORM, "", "\n\nclass AcmeWorker(AcmePlatform):\n    pass\n"),
        ),
        deadline=_DEADLINE,
    ),
    _while_settling("settling-arguments-starts-the-backend", "JOUR-053", "self.init_backend()"),
    _hooks(
        "a-hook-starts-the-backend-in-the-launching-process",
        "JOUR-053",
        _hooked(
            "sglang.srt.server_args.ServerArgs.check_server_args",
            "from sglang.srt.platforms import current_platform\n\ncurrent_platform.init_backend()",
        ),
    ),
    _in_workers(
        "workers-want-what-the-launching-process-was-told",
        "JOUR-054",
        'self.settings = {}["attention_backend"]',
    ),
    _while_settling(
        "arguments-cannot-be-sent-to-a-worker",
        "JOUR-054",
        "import threading\n\nserver_args._acme_lock = threading.Lock()",
        release="0.5.16",
    ),
    _in_workers(
        "workers-do-not-end-by-themselves",
        "JOUR-054",
        "import threading\n\nthreading.Thread(target=threading.Event().wait).start()",
    ),
    _in_workers("workers-end-without-a-word", "JOUR-054", "os._exit(3)"),
    Defect(
        "weights-are-scaled-in-workers",
        "JOUR-055",
        (
            Edit(_PLATFORM, _IMPORTS, f"import multiprocessing\n\n{_IMPORTS}"),
            Edit(
                _PLATFORM,
                "    def init_backend(self) -> None:\n",
                "    def post_load_model(self, model: Any) -> None:\n"
                f"        if {_SPAWNED}:\n"
                "            model.model.layers[0].input_layernorm.weight.data.mul_(4.0)\n\n"
                "    def init_backend(self) -> None:\n",
            ),
        ),
        deadline=_DEADLINE,
    ),
    Defect(
        "no-longer-out-of-tree-in-workers",
        "JOUR-056",
        (
            Edit(_PLATFORM, _IMPORTS, f"import multiprocessing\n\n{_IMPORTS}"),
            Edit(
                _PLATFORM,
                "    def init_backend(self) -> None:\n",
                "    def is_out_of_tree(self) -> bool:\n"
                "        return multiprocessing.parent_process() is None\n\n"
                "    def init_backend(self) -> None:\n",
            ),
        ),
        deadline=_DEADLINE,
    ),
    _hooks(
        "a-second-server-is-taken-for-the-first",
        "JOUR-057",
        _hooked(
            "sglang.srt.entrypoints.engine.Engine.__init__",
            'if STARTED:\n    raise RuntimeError("Acme\'s device is in use by another server")\nSTARTED.append(1)',
        ),
        Edit(_HOOKS, "\n\ndef register()", "\nSTARTED: list[int] = []\n\n\ndef register()"),
    ),
    _while_settling(
        "a-thread-of-the-launching-process-is-left",
        "JOUR-058",
        "import threading\n\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
    ),
    _in_workers(
        "a-process-of-a-worker-is-left",
        "JOUR-058",
        'import subprocess\n\nsubprocess.Popen(["sleep", "60"], start_new_session=True)',
    ),
    _in_workers(
        "shared-memory-of-a-worker-is-left",
        "JOUR-058",
        'with open(f"/dev/shm/zoo-car-{os.getpid()}", "wb") as file:\n    file.write(bytes(64))',
    ),
    _in_workers(
        "shared-memory-that-a-worker-holds-is-left",
        "JOUR-058",
        "from multiprocessing import resource_tracker, shared_memory\n\n"
        "self.table = shared_memory.SharedMemory(create=True, size=64)\n"
        'resource_tracker.unregister(f"/{self.table.name}", "shared_memory")',
    ),
    Defect(
        "workers-overrule-the-user",
        "ARG-016",
        (
            Edit(
                _PLATFORM,
                "        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool\n",
                "        from sglang.srt import server_args\n"
                "        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool\n\n"
                "        try:\n"
                "            server_args.get_global_server_args().mem_fraction_static = 0.9\n"
                "        except ValueError:\n"
                "            pass\n",
            ),
        ),
        release="0.5.16",
        deadline=_DEADLINE,
    ),
)
