"""Right plugins that serve several releases: what one of them lacks is guarded."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_DEVICE = '        return torch.device("cpu")\n'
_READ = ("API-001", "API-002", "API-003", "API-004", "API-005", "API-006", "API-007", "API-008")


def _asked(*lines: str) -> tuple[Edit, ...]:
    return (Edit("platform.py", _DEVICE, "".join(f"        {line}\n" for line in lines) + _DEVICE),)


VARIANTS = (
    Variant(
        "import-of-another-release-is-guarded-by-its-error",
        _READ,
        _asked(
            "try:",
            "    from sglang.srt.utils import acme_alignment",
            "except ImportError:",
            "    acme_alignment = None",
            "assert acme_alignment is None",
        ),
        why="an import that may fail, and says so, is how one plugin serves releases before and after a move",
    ),
    Variant(
        "import-of-another-release-is-guarded-by-its-number",
        _READ,
        _asked(
            "import sglang",
            "from packaging.version import Version",
            'if Version(sglang.__version__) < Version("0.5.13"):',
            "    from sglang.srt.utils import acme_alignment",
        ),
        why="the branch is not taken in this release",
    ),
    Variant(
        "hook-of-another-release-is-guarded-by-its-number",
        _READ,
        (
            Edit(
                "hooks.py",
                "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n",
                "    from importlib.metadata import version\n\n"
                '    if tuple(map(int, version("sglang").split(".")[:3])) > (0, 6, 0):\n'
                '        HookRegistry.register("sglang.srt.distributed.backends.of_acme", print)\n'
                "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n",
            ),
        ),
        why="what is not there is not hooked",
    ),
)
