from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from .made import NEW, OLD, found, judged, write

IMPORTS = """
from sglang.srt.plugins.hook_registry import HookRegistry, HookType, plugin_hook
CORE = "sglang.srt.core"
"""
GROWS, TURNS, WORKER = "sglang.srt.core.grows", "sglang.srt.core.turns", "sglang.srt.core.Worker"


def hooked(folder: Path, text: str) -> Path:
    """The text of the hooks' module, with the imports; one that only has lines for ``register`` begins with a blank."""
    return write(folder, {"vendor/hooks.py": IMPORTS + text})


def registered(folder: Path, target: str, kind: str, hook: str) -> Path:
    register = f"def register():\n    HookRegistry.register({target!r}, hook, HookType.{kind})"
    return hooked(folder, f"{hook}\n{register}")


def test_target_that_is_gone(tmp_path: Path) -> None:
    folder = registered(tmp_path, "sglang.srt.core.goes", "AROUND", "def hook(original, *a, **k): ...")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("hook target", "dies silently", "sglang.srt.core.goes")]


def test_target_that_moved_tells_the_new_place(tmp_path: Path) -> None:
    folder = registered(tmp_path, "sglang.srt.core.moves", "AROUND", "def hook(original, *a, **k): ...")
    (finding,) = judged(folder, NEW).findings[:1]
    assert "sglang.srt.elsewhere.moves" in finding.mend


REGISTERED = [
    """
    def register():
        HookRegistry.register(CORE + '.goes', hook, HookType('around'))
    """,
    """
    def register():
        HookRegistry.register(f'{CORE}.goes', hook, HookType.AROUND)
    """,
    """
    def register():
        HookRegistry.register(CORE + '.goes', hook, hook_type=HookType.AROUND)
    """,
    """
    def register():
        HookRegistry.register('.'.join((CORE, 'goes')), hook, HookType.AROUND)
    """,
    """
    def register():
        HookRegistry.register(target='%s.goes' % CORE, hook=hook, hook_type=HookType.AROUND)
    """,
    """
    def register():
        for name in ('stays', 'goes'):
            HookRegistry.register(f'{CORE}.{name}', hook, HookType.AROUND)
    """,
    """
    ALL = {'goes': hook}
    def register():
        for n, h in ALL.items():
            HookRegistry.register(f'{CORE}.{n}', h, HookType.AROUND)
    """,
    """
    ALL = [(f'{CORE}.goes', hook)]
    def register():
        [HookRegistry.register(t, h, HookType.AROUND) for t, h in ALL]
    """,
    """
    def put(name):
        HookRegistry.register(f'{CORE}.{name}', hook, HookType.AROUND)
    def register():
        put('stays')
        put('goes')
    """,
    """
    plugin_hook(f'{CORE}.goes', HookType.AROUND)(hook)
    def register(): ...
    """,
    """
    @plugin_hook(f'{CORE}.goes', type=HookType.AROUND)
    def other(original, *a, **k): ...
    def register(): ...
    """,
    """
    from sglang.srt.plugins import hook_registry as hr
    def register():
        hr.HookRegistry.register(CORE + '.goes', hook, hr.HookType.AROUND)
    """,
    """
    def register():
        try:
            HookRegistry.register(CORE + '.goes', hook, HookType.AROUND)
        except Exception:
            pass
    """,
    """
    import os
    NAME = 'goes' if os.path.exists('/dev/v') else 'stays'
    def register():
        HookRegistry.register(f'{CORE}.{NAME}', hook, HookType.AROUND)
    """,
    """
    def hooks(name, kind):
        def put(function):
            HookRegistry.register(f'{CORE}.{name}', function, kind)
            return function
        return put
    @hooks('goes', HookType.AROUND)
    def other(original, *a, **k): ...
    def register(): ...
    """,
    """
    import enum
    class Where(str, enum.Enum):
        STAYS = f'{CORE}.stays'
        GOES = f'{CORE}.goes'
    def register():
        for where in Where:
            HookRegistry.register(where.value, hook, HookType['AROUND'])
    """,
    """
    from dataclasses import dataclass
    @dataclass(frozen=True)
    class Spec:
        target: str
        kind: str = 'AROUND'
    ALL = [Spec(CORE + '.stays'), Spec(target=CORE + '.goes')]
    def register():
        for spec in ALL:
            HookRegistry.register(spec.target, hook, getattr(HookType, spec.kind))
    """,
    """
    from typing import Callable, NamedTuple
    class Row(NamedTuple):
        target: str
        hook: Callable
    def register():
        for target, h in (Row(f'{CORE}.goes', hook),):
            HookRegistry.register(target, h, HookType.AROUND)
    """,
    """
    class Vendor:
        TARGET = f'{CORE}.goes'
        @classmethod
        def register(cls):
            HookRegistry.register(cls.TARGET, hook, HookType.AROUND)
    def register():
        Vendor.register()
    """,
]


@pytest.mark.parametrize("text", REGISTERED)
def test_target_is_read_however_it_is_written(tmp_path: Path, text: str) -> None:
    folder = hooked(tmp_path, f"def hook(original, *a, **k): ...\n{dedent(text)}")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("hook target", "dies silently", "sglang.srt.core.goes")]
    assert judged(folder, NEW).not_judged == ()


def test_target_that_is_computed_is_not_judged(tmp_path: Path) -> None:
    folder = hooked(
        tmp_path, "import os\ndef register():\n    HookRegistry.register(os.environ['T'], print, HookType.AROUND)"
    )
    assert found(folder, NEW) == []
    assert judged(folder, NEW).not_judged == ("vendor/hooks.py:6: the target of this hook is computed",)


@pytest.mark.parametrize(
    "guard",
    ["sglang.__version__ == '0.5.11'", "hasattr(sglang.srt.core, 'goes')", "sglang.__version__ < '0.5.20'"],
)
def test_guarded_registration_is_not_blamed(tmp_path: Path, guard: str) -> None:
    text = f"import sglang.srt.core\ndef register():\n    if {guard}:\n        "
    text += "HookRegistry.register(CORE + '.goes', print)"
    assert found(hooked(tmp_path, text), NEW) == []


def test_hook_of_a_target_elsewhere_is_not_judged(tmp_path: Path) -> None:
    assert found(registered(tmp_path, "torch.nope", "AROUND", "def hook(): ..."), NEW) == []


@pytest.mark.parametrize(
    ("kind", "hook"),
    [
        ("BEFORE", "def hook(x, y): ..."),
        ("BEFORE", "def hook(*args, **kwargs): ..."),
        ("BEFORE", "def hook(a, b, more=None): ..."),
        ("AFTER", "def hook(result, x, y): ..."),
        ("AFTER", "def hook(*args): ..."),
        ("AROUND", "def hook(original, x, y): ..."),
        ("AROUND", "def hook(original, *args, **kwargs): ..."),
        ("AROUND", "hook = lambda original, x, y: 0"),
        ("REPLACE", "def hook(x, y): ..."),
        ("REPLACE", "import functools\nhook = functools.partial(print, 1)"),
        ("REPLACE", "from other import wrapped\n@wrapped\ndef hook(): ..."),
    ],
)
def test_hook_that_fits(tmp_path: Path, kind: str, hook: str) -> None:
    assert found(registered(tmp_path, GROWS, kind, hook), NEW) == []


@pytest.mark.parametrize(
    ("kind", "hook"),
    [
        ("BEFORE", "def hook(x): ..."),
        ("BEFORE", "def hook(original, x, y): ..."),
        ("BEFORE", "def hook(x, y, *, more): ..."),
        ("AFTER", "def hook(): ..."),
        ("AFTER", "def hook(x, y): ..."),
        ("AROUND", "def hook(original, x): ..."),
        ("AROUND", "hook = lambda original, x: 0"),
        ("REPLACE", "def hook(x): ..."),
        ("REPLACE", "def hook(original, x, y): ..."),
    ],
)
def test_hook_that_does_not_fit(tmp_path: Path, kind: str, hook: str) -> None:
    assert found(registered(tmp_path, GROWS, kind, hook), NEW) == [("hook parameters", "breaks", GROWS)]


def test_hook_that_lacks_an_optional_parameter_may_break(tmp_path: Path) -> None:
    folder = registered(tmp_path, TURNS, "AROUND", "def hook(original, x): ...")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("hook parameters", "may break", TURNS)]
    assert found(registered(tmp_path / "b", TURNS, "AROUND", "def hook(original, x, z=1): ..."), NEW) == []


@pytest.mark.parametrize(
    ("hook", "fits"),
    [
        ("def hook(original, self, batch, *, stream): ...", True),
        ("def hook(original, worker, *args, **kwargs): ...", True),
        ("def hook(original, self, batch, **kwargs): ...", True),
        ("def hook(original, self, batch): ...", False),
        ("def hook(original, self, batch, stream): ...", True),
        ("def hook(original, batch, *, stream): ...", False),
    ],
)
def test_hook_of_a_method_gets_its_object(tmp_path: Path, hook: str, fits: bool) -> None:
    folder = registered(tmp_path, f"{WORKER}.run", "AROUND", hook)
    assert found(folder, NEW) == ([] if fits else [("hook parameters", "breaks", f"{WORKER}.run")])


def test_hook_of_a_class_method_gets_the_class(tmp_path: Path) -> None:
    assert (
        found(registered(tmp_path / "a", f"{WORKER}.make", "AROUND", "def hook(original, cls, args): ..."), NEW) == []
    )
    folder = registered(tmp_path / "b", f"{WORKER}.make", "REPLACE", "def hook(args): ...")
    assert found(folder, NEW) == [("hook parameters", "breaks", f"{WORKER}.make")]


def test_after_is_the_kind_where_none_is_given(tmp_path: Path) -> None:
    text = "def hook(result, x, y): ...\ndef register():\n    HookRegistry.register(CORE + '.grows', hook)"
    assert found(hooked(tmp_path / "a", text), NEW) == []
    text = "@plugin_hook(CORE + '.grows')\ndef hook(x, y): ...\ndef register(): ..."
    assert found(hooked(tmp_path / "b", text), NEW) == [("hook parameters", "breaks", GROWS)]


def test_kind_that_is_computed_is_not_judged(tmp_path: Path) -> None:
    text = "def register(kind=None):\n    HookRegistry.register(CORE + '.grows', print, HookType[kind])"
    assert found(hooked(tmp_path, text), NEW) == []


def test_hook_that_names_its_parameters_as_the_target_did_may_break(tmp_path: Path) -> None:
    target = "sglang.srt.core.renames"
    folder = registered(tmp_path / "a", target, "BEFORE", "def hook(old, other): ...")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("hook parameters", "may break", target)]
    assert found(registered(tmp_path / "b", target, "BEFORE", "def hook(a, b): ..."), NEW) == []


def test_class_is_only_taken_as_replacement(tmp_path: Path) -> None:
    folder = registered(tmp_path, WORKER, "AROUND", "class hook: ...")
    assert found(folder, NEW) == [("hook kind", "dies silently", WORKER)]


def test_class_target_only_takes_a_replacement(tmp_path: Path) -> None:
    folder = registered(tmp_path, WORKER, "AROUND", "def hook(original, *a, **k): ...")
    assert found(folder, NEW) == [("hook kind", "dies silently", WORKER)]


def test_class_replaced_by_a_function(tmp_path: Path) -> None:
    folder = registered(tmp_path, WORKER, "REPLACE", "def hook(*a, **k): ...")
    assert found(folder, NEW) == [("hook kind", "breaks", WORKER)]


def test_function_replaced_by_a_class(tmp_path: Path) -> None:
    assert found(registered(tmp_path, GROWS, "REPLACE", "class hook: ..."), NEW) == [("hook kind", "may break", GROWS)]


def test_property_is_no_target(tmp_path: Path) -> None:
    folder = registered(tmp_path, f"{WORKER}.name", "AROUND", "def hook(original, self): ...")
    assert found(folder, NEW) == [("hook kind", "breaks", f"{WORKER}.name")]


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ("pass", True),
        ("def __init__(self, args, rank, port): ...", True),
        ("def __init__(self, *args, **kwargs): ...", True),
        ("def __init__(self, args, rank): ...", False),
        ("def __init__(self, args, rank, port, more): ...", False),
    ],
)
def test_class_that_replaces_another_is_made_as_that_is(tmp_path: Path, body: str, fits: bool) -> None:
    hook = f"from sglang.srt.core import Worker\nclass hook(Worker):\n    {body}"
    folder = registered(tmp_path, WORKER, "REPLACE", hook)
    assert found(folder, NEW) == ([] if fits else [("hook parameters", "breaks", WORKER)])


def test_import_in_a_hook_breaks_when_it_is_called(tmp_path: Path) -> None:
    folder = registered(tmp_path, GROWS, "AROUND", "def hook(original, x, y):\n    import sglang.srt.lost")
    assert found(folder, NEW) == [("import", "breaks", "sglang.srt.lost")]


def test_hook_that_a_closure_makes_is_judged(tmp_path: Path) -> None:
    text = "def make(name):\n    def hook(original, x):\n        return name\n    return hook\n"
    text += "def register():\n    HookRegistry.register(CORE + '.grows', make('a'), HookType.AROUND)"
    assert found(hooked(tmp_path, text), NEW) == [("hook parameters", "breaks", GROWS)]


def test_target_in_a_module_that_the_plugin_puts_there(tmp_path: Path) -> None:
    text = "import sys, types\nsys.modules['sglang.srt.mine'] = types.ModuleType('m')\ndef hook(original, x): ...\n"
    text += "def register():\n    HookRegistry.register('sglang.srt.mine.f', hook, HookType.AROUND)"
    assert found(hooked(tmp_path, text), NEW) == []


def test_hook_that_is_registered_under_a_condition_may_break(tmp_path: Path) -> None:
    text = "import os\ndef hook(original, x): ...\ndef register():\n    if os.environ.get('FAST'):\n        "
    text += "HookRegistry.register(CORE + '.grows', hook, HookType.AROUND)"
    assert found(hooked(tmp_path / "a", text), NEW) == [("hook parameters", "may break", GROWS)]
    left = text.replace(
        "if os.environ.get('FAST'):\n        ", "if not os.path.exists('/dev/v'):\n        return\n    "
    )
    assert found(hooked(tmp_path / "b", left), NEW) == [("hook parameters", "breaks", GROWS)]


def test_member_that_no_class_of_sglangs_has_ever_had(tmp_path: Path) -> None:
    hook = "def hook(original, *a, **k): ..."
    never = "sglang.srt.core.Mixed.nevre"
    assert found(registered(tmp_path / "a", never, "AROUND", hook), NEW) == [("hook target", "dies silently", never)]
    assert found(registered(tmp_path / "b", "sglang.srt.core.Mixed.run", "AROUND", hook), NEW) == []
    assert found(registered(tmp_path / "c", "sglang.srt.core.Net.nevre", "AROUND", hook), NEW) == []
