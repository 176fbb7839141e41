from __future__ import annotations

from pathlib import Path

import pytest

from .made import LAST, NEW, OLD, found, judged, platform, write


def written(folder: Path, body: str, before: str = "", **files: str) -> Path:
    return write(folder, {"vendor/platform.py": platform(body, before), **files})


GONE = "sglang.srt.lost"


def test_import_of_the_platforms_module_breaks(tmp_path: Path) -> None:
    folder = written(tmp_path, "", "from sglang.srt.lost import old")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("import", "breaks", GONE)]


def test_import_of_a_name_that_moved_tells_the_new_place(tmp_path: Path) -> None:
    folder = written(tmp_path, "", "from sglang.srt.core import moves")
    (finding,) = (f for f in judged(folder, NEW).findings if f.kind == "import")
    assert finding.subject == "sglang.srt.core.moves"
    assert "sglang.srt.elsewhere.moves" in finding.mend
    assert OLD not in finding.why
    assert "up to 0.5.16" in finding.why


@pytest.mark.parametrize(
    "guarded",
    [
        "try:\n    from sglang.srt.core import moves\nexcept ImportError:\n    from sglang.srt.elsewhere import moves",
        "try:\n    from sglang.srt.elsewhere import moves\nexcept ImportError:\n    from sglang.srt.core import moves",
        "try:\n    import sglang.srt.lost\nexcept ModuleNotFoundError:\n    pass",
        "try:\n    from sglang.srt.lost import old\nexcept Exception:\n    old = None",
        "try:\n    from sglang.srt.lost import old\nexcept:\n    old = None",
        "with contextlib.suppress(ImportError):\n    from sglang.srt.lost import old",
        "if TYPE_CHECKING:\n    from sglang.srt.lost import old",
        "if typing.TYPE_CHECKING:\n    from sglang.srt.lost import old",
        "if importlib.util.find_spec('sglang.srt.lost') is not None:\n    from sglang.srt.lost import old",
        "if sglang.__version__ == '0.5.11' or sglang.__version__ == '0.5.16':\n    from sglang.srt.lost import old",
        "if metadata.version('sglang') in ('0.5.11', '0.5.16'):\n    from sglang.srt.lost import old",
        "if Version(metadata.version('sglang')).release < (0, 5, 20):\n    from sglang.srt.lost import old",
        "LATE = parse(sglang.__version__) >= parse('0.5.20')\nif not LATE:\n    from sglang.srt.lost import old",
        "OLD = not hasattr(sglang.srt.core, 'turns2')\nif OLD and hasattr(core, 'Gone'):\n    import sglang.srt.lost",
        "if 'stream' not in inspect.signature(core.Worker.run).parameters:\n    import sglang.srt.lost",
        "if sglang.__version__ in SpecifierSet('<0.5.20'):\n    import sglang.srt.lost",
        "if not SpecifierSet('>=0.5.20').contains(metadata.version('sglang')):\n    import sglang.srt.lost",
        "class Told:\n    @property\n    def early(self):\n        return sglang.__version__[-2:] != '23'\n"
        "    @early.setter\n    def early(self, value): ...\nif Told().early:\n    import sglang.srt.lost",
        "match Version(sglang.__version__).release:\n    case (0, 5, 11) | (0, 5, 16):\n        core.Gone\n"
        "    case (0, 5, _) as other if other:\n        pass\n    case _:\n        import sglang.srt.lost",
        "def there(p):\n    try:\n        return pkgutil.resolve_name(p)\n    except (ImportError, AttributeError):\n"
        "        return None\nif there('sglang.srt.core.Gone') and there('sglang.srt.lost'):\n    core.Gone",
        "if hasattr(envs, 'SGLANG_OLD'):\n    envs.SGLANG_OLD.get()",
        "sys.modules.setdefault('sglang.srt.lost', os)\nimport sglang.srt.lost",
        "told = os.getenv('V')\nif told is None:\n    told = sglang.__version__\n"
        "if Version(told) < Version('0.5.20'):\n    import sglang.srt.lost",
    ],
)
def test_guarded_import_is_not_blamed(tmp_path: Path, guarded: str) -> None:
    before = f"""
import contextlib, importlib.util, inspect, os, pkgutil, sys, typing
from importlib import metadata
from typing import TYPE_CHECKING
import sglang
from packaging.specifiers import SpecifierSet
from packaging.version import Version, parse
from sglang.srt import core
from sglang.srt.environ import envs
{guarded}
"""
    folder = written(tmp_path, "", before)
    assert found(folder, OLD) == []
    assert found(folder, NEW) == []


def test_guard_for_a_missing_module_does_not_catch_a_missing_name(tmp_path: Path) -> None:
    before = "try:\n    from sglang.srt.core import Gone\nexcept ModuleNotFoundError:\n    Gone = None"
    assert found(written(tmp_path, "", before), NEW) == [("import", "breaks", "sglang.srt.core.Gone")]


def test_handler_that_imports_what_is_gone_too_is_blamed(tmp_path: Path) -> None:
    before = "try:\n    from sglang.srt.lost import old\nexcept ImportError:\n    from sglang.srt.core import Gone"
    assert found(written(tmp_path, "", before), NEW) == [("import", "breaks", "sglang.srt.core.Gone")]


def test_import_in_a_member_that_core_calls_breaks(tmp_path: Path) -> None:
    folder = written(tmp_path, "def init_backend(self):\n    from sglang.srt.lost import old")
    assert found(folder, NEW) == [("import", "breaks", GONE)]


def test_import_in_a_helper_of_such_a_member_breaks(tmp_path: Path) -> None:
    before = "def helper():\n    import sglang.srt.lost"
    folder = written(tmp_path, "def init_backend(self):\n    self._first()\ndef _first(self):\n    helper()", before)
    assert found(folder, NEW) == [("import", "breaks", GONE)]


def test_import_behind_a_condition_may_break(tmp_path: Path) -> None:
    folder = written(
        tmp_path, "def init_backend(self):\n    if self.wanted():\n        from sglang.srt.lost import old"
    )
    assert found(folder, NEW) == [("import", "may break", GONE)]


def test_import_in_a_member_that_this_release_does_not_ask_for_is_not_run(tmp_path: Path) -> None:
    folder = written(tmp_path, "def get_nsa_kv_pool_cls(self):\n    from sglang.srt.lost import old\n    return old")
    assert [f for f in found(folder, NEW) if f[0] == "import"] == []


def test_function_that_only_dead_code_calls_is_not_run(tmp_path: Path) -> None:
    before = """
import sglang
def for_old():
    from sglang.srt.lost import old
if sglang.__version__ == "0.5.11":
    for_old()
"""
    assert found(written(tmp_path, "", before), NEW) == []


def test_module_that_only_dead_code_imports_is_not_run(tmp_path: Path) -> None:
    before = "import sglang\nif not hasattr(SRTPlatform, 'get_kv_pool_cls'):\n    from vendor import for_old"
    folder = written(tmp_path, "", before, **{"vendor/for_old.py": "from sglang.srt.lost import old"})
    assert found(folder, NEW) == []
    assert found(folder, LAST) == [("import", "breaks", GONE)]


def test_module_that_nobody_imports_may_still_be_found(tmp_path: Path) -> None:
    folder = written(tmp_path, "", **{"vendor/patches/quiet.py": "from sglang.srt.lost import old"})
    assert found(folder, NEW) == [("import", "may break", GONE)]


def test_import_of_the_hooks_module_takes_the_hooks_with_it(tmp_path: Path) -> None:
    folder = written(tmp_path, "", **{"vendor/hooks.py": "from sglang.srt.lost import old\ndef register(): ..."})
    assert found(folder, NEW) == [("import", "dies silently", GONE)]


def test_error_that_a_caller_catches_is_silent(tmp_path: Path) -> None:
    body = "def init_backend(self):\n    try:\n        patch()\n    except Exception:\n        pass"
    folder = written(tmp_path, body, "def patch():\n    import sglang.srt.lost")
    assert found(folder, NEW) == [("import", "dies silently", GONE)]


def test_attribute_of_a_module_that_is_gone(tmp_path: Path) -> None:
    body = "def init_backend(self):\n    return core.Gone"
    folder = written(tmp_path, body, "from sglang.srt import core")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("attribute", "breaks", "sglang.srt.core.Gone")]


@pytest.mark.parametrize(
    "body",
    [
        "return getattr(core, 'Gone', None)",
        "return core.Gone if hasattr(core, 'Gone') else None",
        "return hasattr(core, 'Gone') and core.Gone()",
        "if hasattr(core, 'Gone'):\n        return core.Gone",
        "try:\n        return core.Gone\n    except AttributeError:\n        return None",
        "if not hasattr(core, 'Gone'):\n        return None\n    return core.Gone",
        "return core.never_seen_anywhere",  # set by another plugin, for all that can be told
        "return core.Worker.made_by_a_metaclass",
    ],
)
def test_guarded_attribute_is_not_blamed(tmp_path: Path, body: str) -> None:
    folder = written(tmp_path, f"def init_backend(self):\n    {body}", "from sglang.srt import core")
    assert found(folder, NEW) == []


def test_name_looked_up_by_a_helper_is_judged_as_it_is_called(tmp_path: Path) -> None:
    before = "from sglang.srt import core\ndef of_core(name):\n    return getattr(core, name)"
    folder = written(tmp_path / "a", "def init_backend(self):\n    return of_core('Gone')", before)
    assert found(folder, NEW) == [("attribute", "breaks", "sglang.srt.core.Gone")]
    folder = written(tmp_path / "b", "def init_backend(self):\n    return of_core('Worker')", before)
    assert found(folder, NEW) == []


def test_patch_of_what_is_gone_dies_silently(tmp_path: Path) -> None:
    before = "from sglang.srt import core\ncore.goes = lambda x: x\nsetattr(core.Worker, 'stop', None)"
    folder = written(tmp_path, "", before)
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [
        ("patch", "dies silently", "sglang.srt.core.goes"),
        ("patch", "dies silently", "sglang.srt.core.Worker.stop"),
    ]


def test_patch_of_what_is_there_or_new_is_fine(tmp_path: Path) -> None:
    before = "from sglang.srt import core\ncore.stays = None\ncore.Worker.vendor_thing = 1"
    assert found(written(tmp_path, "", before), NEW) == []


def test_enum_member_that_an_older_release_lacks(tmp_path: Path) -> None:
    folder = written(tmp_path, "_enum = PlatformEnum.SAIL")
    assert found(folder, LAST) == [("attribute", "breaks", "sglang.srt.platforms.device_mixin.PlatformEnum.SAIL")]
    assert found(folder, NEW) == []


@pytest.mark.parametrize(
    "value", ["getattr(PlatformEnum, 'SAIL', PlatformEnum.OOT)", "PlatformEnum['OOT']", "PlatformEnum.OOT.value"]
)
def test_enum_member_that_is_asked_for_with_care(tmp_path: Path, value: str) -> None:
    assert found(written(tmp_path, f"_enum = {value}"), LAST) == []


def test_capability_that_no_release_has(tmp_path: Path) -> None:
    before = "from sglang.srt.platforms.interface import PlatformCapabilities"
    subject = "sglang.srt.platforms.interface.PlatformCapabilities(supports_everything)"
    folder = written(tmp_path / "a", "capabilities = PlatformCapabilities(supports_everything=True)", before)
    assert found(folder, NEW) == [("call", "breaks", subject)]
    folder = written(tmp_path / "b", "capabilities = PlatformCapabilities(supports_pynccl=True)", before)
    assert found(folder, NEW) == []


def test_capabilities_put_together_by_what_there_is(tmp_path: Path) -> None:
    before = """
from sglang.srt.platforms.interface import PlatformCapabilities
wanted = {"graph_capture": True, "supports_everything": True}
fields = {name: value for name, value in wanted.items() if name in PlatformCapabilities.__struct_fields__}
"""
    assert found(written(tmp_path, "capabilities = PlatformCapabilities(**fields)", before), NEW) == []


def test_member_asked_of_super_or_self_that_is_gone(tmp_path: Path) -> None:
    subject = "sglang.srt.platforms.interface.SRTPlatform.support_cuda_graph"
    for i, asked in enumerate(("super().support_cuda_graph()", "self.support_cuda_graph()")):
        folder = written(tmp_path / str(i), f"def init_backend(self):\n    return {asked}")
        assert found(folder, LAST) == []
        assert found(folder, NEW) == [("attribute", "breaks", subject)]


def test_member_that_the_plugin_has_itself_may_be_asked_for(tmp_path: Path) -> None:
    body = "def init_backend(self):\n    self.mine = 1\n    return self.mine, self._own(), self.supports_fp8\n"
    body += "def _own(self): ...\n"
    folder = written(tmp_path, body + "supports_fp8 = False")
    assert [f for f in found(folder, NEW) if f[0] == "attribute"] == []


def test_current_platform_is_asked_for_a_member_that_is_gone(tmp_path: Path) -> None:
    before = "from sglang.srt.platforms import current_platform"
    subject = "sglang.srt.platforms.interface.SRTPlatform.is_sail"
    folder = written(tmp_path, "def init_backend(self):\n    return current_platform.is_sail()", before)
    assert found(folder, LAST) == [("attribute", "breaks", subject)]
    assert found(folder, NEW) == []


def test_call_that_a_function_no_longer_takes(tmp_path: Path) -> None:
    body = "def init_backend(self):\n    core.grows(1)\n    core.turns(1)\n    core.Worker({}, 0)"
    folder = written(tmp_path, body, "from sglang.srt import core")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [
        ("call", "breaks", "sglang.srt.core.grows()"),
        ("call", "breaks", "sglang.srt.core.Worker()"),
    ]


def test_call_with_what_is_not_told_is_not_blamed(tmp_path: Path) -> None:
    body = "def init_backend(self, *args, **kwargs):\n    core.grows(*args)\n    core.grows(1, **kwargs)"
    assert found(written(tmp_path, body, "from sglang.srt import core"), NEW) == []


def test_class_path_that_is_wrong(tmp_path: Path) -> None:
    activate = "def activate():\n    return 'vendor.platform.VendorPlatfrom'"
    folder = write(tmp_path, {"vendor/__init__.py": activate})
    assert ("class path", "breaks", "vendor.platform.VendorPlatfrom") in found(folder, NEW)


@pytest.mark.parametrize(
    "activate",
    [
        """
        import os
        NAME = "VendorPlatform"
        def activate():
            if os.path.exists("/dev/v"):
                return f"{__name__}.platform.{NAME}"
        """,
        """
        def activate():
            from vendor.platform import VendorPlatform as P
            return P.__module__ + "." + P.__qualname__
        """,
        """
        import importlib
        LAZY = {"Lazy": ("vendor.platform", "VendorPlatform")}
        def __getattr__(name):
            if name not in LAZY:
                raise AttributeError(name)
            return getattr(importlib.import_module(LAZY[name][0]), LAZY[name][1])
        def activate():
            return "vendor:Lazy"
        """,
        """
        from vendor.platform import VendorPlatform
        def activate():
            return f"{VendorPlatform.__module__}.{VendorPlatform.__name__}"
        """,
        """
        class Entry:
            def __call__(self):
                return "vendor.platform.VendorPlatform"
        activate = Entry()
        """,
    ],
)
def test_class_is_found_in_other_ways(tmp_path: Path, activate: str) -> None:
    bad = platform("def is_pin_memory_available(self):\n    return True")
    folder = write(tmp_path, {"vendor/__init__.py": activate, "vendor/platform.py": bad})
    assert found(folder, NEW) == [("signature", "breaks", "is_pin_memory_available")]


def test_flag_that_functions_set_is_not_what_the_module_began_with(tmp_path: Path) -> None:
    before = """
done = False
def once():
    global done
    done = True
def later():
    if done:
        from sglang.srt.lost import old
"""
    folder = written(tmp_path, "def init_backend(self):\n    once()\n    later()", before)
    assert found(folder, NEW) == [("import", "may break", GONE)]


def test_function_that_runs_once_is_run(tmp_path: Path) -> None:
    before = """
done = False
def once():
    global done
    if done:
        return
    done = True
    from sglang.srt.lost import old
"""
    assert found(written(tmp_path, "def init_backend(self):\n    once()", before), NEW) == [("import", "breaks", GONE)]


def test_module_that_the_plugin_puts_there_is_there(tmp_path: Path) -> None:
    before = (
        "import sys, types\nsys.modules['sglang.srt.lost'] = types.ModuleType('m')\nfrom sglang.srt.lost import old"
    )
    assert found(written(tmp_path, "", before), NEW) == []


def test_member_of_a_class_with_bases_elsewhere(tmp_path: Path) -> None:
    before = "from sglang.srt import core"
    body = "def init_backend(self):\n    return core.Net.was, core.Net.parameters, core.Net.never"
    folder = written(tmp_path, body, before)
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("attribute", "breaks", "sglang.srt.core.Net.was")]


def test_attribute_that_objects_of_an_older_release_have_is_not_missed(tmp_path: Path) -> None:
    """A class variable of the newer release may be what the older one sets on its objects."""
    before = """
from sglang.srt.core import Worker
class Mine(Worker):
    def go(self):
        return self.speed, self.stop()
"""
    folder = written(tmp_path, "", before)
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("attribute", "may break", "sglang.srt.core.Worker.stop")]


@pytest.mark.parametrize(
    ("imported", "now"),
    [
        ("sglang.srt.elsewhere_too.stays", "sglang.srt.core.stays"),  # it was only passed on from there
        ("sglang.srt.core.is_sparse_nsa", "sglang.srt.core.is_sparse_dsa"),
        ("sglang.srt.core.goes", ""),
    ],
)
def test_likely_new_place(tmp_path: Path, imported: str, now: str) -> None:
    module, _, name = imported.rpartition(".")
    folder = written(tmp_path, "", f"from {module} import {name}")
    (finding,) = (f for f in judged(folder, NEW).findings if f.kind == "import")
    assert finding.mend == (
        f"it is likely {now} now" if now else f"do without {name}, or guard its use for the releases that have it"
    )


LAZILY = """
import vendor_lib
def __getattr__(name):
    return vendor_lib.look(name)
def activate():
    return "vendor.Anything"
"""
MADE = """
import vendor_lib
Made = vendor_lib.platform("v")
def activate():
    return "vendor.Made"
"""


@pytest.mark.parametrize("activate", [LAZILY, MADE])
def test_class_that_reading_cannot_tell_is_not_missed(tmp_path: Path, activate: str) -> None:
    folder = write(tmp_path, {"vendor/__init__.py": activate, "vendor/platform.py": ""})
    assert found(folder, NEW) == []
    untold = judged(folder, NEW).not_judged
    assert untold[0].endswith("is not told by reading; looked for by its base")
    assert untold[1] == "no platform class was found: what core asks of it is not judged"


def test_class_in_a_class_and_one_that_a_function_makes(tmp_path: Path) -> None:
    bad = "def is_pin_memory_available(self):\n            return True"
    made = platform("").partition("class VendorPlatform")[0]
    made += f"""
def make(base, *more):
    class Inner(*more, base):
        {bad}
    return Inner
Made = make(SRTPlatform, VendorMixin)
class Outer:
    class Inner(VendorMixin, SRTPlatform):
        {bad}
"""
    for i, path in enumerate(("Made", "Outer.Inner")):
        activate = f"def activate():\n    return 'vendor.platform:{path}'"
        folder = write(tmp_path / str(i), {"vendor/__init__.py": activate, "vendor/platform.py": made})
        assert found(folder, NEW) == [("signature", "breaks", "is_pin_memory_available")]


@pytest.mark.parametrize(("case", "severity"), [("'v'", "breaks"), ("unknown", "may break"), ("'w'", "")])
def test_case_that_is_taken_is_walked(tmp_path: Path, case: str, severity: str) -> None:
    body = "def init_backend(self):\n    match self.name:\n"
    body += f"        case {case if case != 'unknown' else 'self._other'}:\n            import sglang.srt.lost\n"
    body += "        case _:\n            pass"
    folder = written(tmp_path, f"name = 'v'\n_other = len\n{body}")
    expected = [("import", severity, "sglang.srt.lost")] if severity else []
    assert found(folder, NEW) == expected


def test_decorator_of_the_plugin_patches(tmp_path: Path) -> None:
    before = """
import importlib, sys
def patch(path):
    module, _, name = path.rpartition(".")
    def put(function):
        setattr(importlib.import_module(module), name, function)
        return function
    return put
@patch("sglang.srt.core.goes")
def mine(x): ...
import sglang.srt.core
setattr(sys.modules["sglang.srt.core"], "moves", mine)
"""
    gone = [("patch", "dies silently", f"sglang.srt.core.{name}") for name in ("goes", "moves")]
    assert found(written(tmp_path, "", before), OLD) == []
    assert sorted(found(written(tmp_path, "", before), NEW)) == gone


def test_function_that_does_nothing_but_raise(tmp_path: Path) -> None:
    folder = written(tmp_path, "def init_backend(self):\n    core.retired()", "from sglang.srt import core")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("call", "breaks", "sglang.srt.core.retired()")]


def test_capability_that_the_platform_in_use_lacks(tmp_path: Path) -> None:
    before = "from sglang.srt.platforms import current_platform"
    folder = written(tmp_path, "def init_backend(self):\n    current_platform.capabilities.supports_never", before)
    path = "sglang.srt.platforms.interface.PlatformCapabilities"
    assert found(folder, NEW) == []  # no release has it: an object may have more than its table says
    folder = written(
        tmp_path / "b", "def init_backend(self):\n    current_platform.capabilities.supports_pynccl", before
    )
    assert found(folder, NEW) == []
    assert found(folder, LAST) == [("attribute", "breaks", f"{path.rpartition('.')[0]}.SRTPlatform.capabilities")]


def test_member_asked_of_super_that_a_class_of_many_bases_has_no_more(tmp_path: Path) -> None:
    before = "from sglang.srt import core\nclass Mine(core.Mixed{0}):\n    def go(self):\n        super().stop()"
    body = "def init_backend(self):\n    Mine().go()"
    folder = written(tmp_path / "a", body, before.format(""))
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("attribute", "breaks", "sglang.srt.core.Mixed.stop")]
    folder = written(tmp_path / "b", body, "import vendor_lib\n" + before.format(", vendor_lib.Mixin"))
    assert found(folder, NEW) == []
