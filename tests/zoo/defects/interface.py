"""Plugins whose code does not fit SGLang where this machine does not run it: other machines will."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_DEVICE = '        return torch.device("cpu")\n'
_REGISTER = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_ELSEWHERE = '    import os\n\n    if os.environ.get("ACME_FAST"):\n'
_DEFAULTS = "sglang.srt.platforms.interface.SRTPlatform.apply_server_args_defaults"
_LIST = "    supported_quantization: list[str] = []\n"
_RUNNER = (
    "    def __init__(self, model_runner: Any, **options: Any) -> None:\n        self.model_runner = model_runner\n"
)


def _asked(line: str) -> tuple[Edit, ...]:
    """Core asks for the device of a group, and the platform needs this line for it on a machine with two boards."""
    return (Edit("platform.py", _DEVICE, f"        if local_rank > 1:\n            {line}\n{_DEVICE}"),)


def _lite(body: str) -> tuple[Edit, ...]:
    """A second platform class, for a board that this machine has not."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return (
        Edit("platform.py", "", f"\n\nclass AcmeLite(AcmePlatform):\n{lines}"),
        Edit(
            "__init__.py",
            '    return "acme.platform.AcmePlatform"\n',
            '    lite = os.environ.get("ACME_BOARD") == "lite"\n'
            '    return "acme.platform.AcmeLite" if lite else "acme.platform.AcmePlatform"\n',
        ),
    )


DEFECTS = (
    Defect(
        "name-of-sglang-that-is-gone-where-a-board-is-not-here",
        "API-001",
        _lite("from sglang.srt.utils import acme_alignment\n"),
    ),
    Defect(
        "module-of-sglang-that-is-gone-in-a-member-of-another-board",
        "API-001",
        _lite("def get_group_coordinator_device(self, local_rank):\n    import sglang.srt.acme_boards\n"),
    ),
    Defect("name-of-sglang-that-is-gone-under-a-condition", "API-002", _asked("from sglang.srt.utils import acme")),
    Defect(
        "hook-target-that-is-gone-under-a-condition",
        "API-003",
        (
            Edit(
                "hooks.py", _REGISTER, f'{_REGISTER}{_ELSEWHERE}        HookRegistry.register("{_DEFAULTS}s", print)\n'
            ),
        ),
    ),
    Defect(
        "hook-without-the-result-under-a-condition",
        "API-003",
        (
            Edit(
                "hooks.py",
                _REGISTER,
                f'{_REGISTER}{_ELSEWHERE}        HookRegistry.register("{_DEFAULTS}", nothing, HookType.AFTER)\n',
            ),
            Edit("hooks.py", "", "\n\ndef nothing() -> None:\n    pass\n"),
        ),
    ),
    Defect(
        "override-of-another-board-without-its-parameter",
        "API-004",
        _lite("def get_group_coordinator_device(self):\n    return None\n"),
    ),
    Defect(
        "override-of-another-board-is-a-coroutine",
        "API-004",
        _lite("async def get_group_coordinator_device(self, local_rank):\n    return None\n"),
    ),
    Defect(
        "attribute-of-another-board-is-a-method",
        "API-004",
        _lite("def capabilities(self):\n    return None\n"),
    ),
    Defect(
        "runner-takes-no-model-runner",
        "API-005",
        (
            Edit("platform.py", _RUNNER, "    def __init__(self) -> None:\n"),
            Edit("platform.py", "import SRTPlatform\n", "import PlatformCapabilities, SRTPlatform\n"),
            Edit("platform.py", _LIST, f"    capabilities = PlatformCapabilities(graph_capture=True)\n{_LIST}"),
        ),
    ),
    Defect(
        "flag-of-the-past-on-another-board",
        "API-006",
        _lite("def support_cuda_graph(self):\n    return True\n"),
    ),
    Defect(
        "override-of-another-board-is-misspelt",
        "API-006",
        _lite("def initialize_backend(self):\n    return None\n"),
    ),
    Defect(
        "variable-that-sglang-warns-of",
        "API-007",
        _lite('import os\n\nfast = os.environ.get("SGLANG_DSPARK_FAST_SAMPLING")\n'),
    ),
)
