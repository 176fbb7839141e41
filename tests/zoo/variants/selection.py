"""Other right ways to be selected."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_ANSWER = '    return "acme.platform.AcmePlatform"\n'


def _first(code: str) -> tuple[Edit, ...]:
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return (Edit("__init__.py", _ANSWER, lines + _ANSWER),)


VARIANTS: tuple[Variant, ...] = (
    Variant(
        "asks-for-the-version-of-a-dependency",
        ("SEL-002", "SEL-005", "SEL-008"),
        _first("import importlib.metadata\nif importlib.metadata.version('torch') < '2':\n    return None"),
        "the other installed distributions are there whatever plugins are",
    ),
    Variant(
        "activates-slowly",
        ("SEL-005",),
        _first("import time\ntime.sleep(1.5)"),
        "a driver may take its time",
        deadline=15.0,
    ),
)
