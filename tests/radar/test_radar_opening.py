from __future__ import annotations

import importlib.metadata
import sys
import zipfile
from pathlib import Path

import pytest

from sglang_conformance.cli import main
from sglang_conformance.radar.opening import open_installed, open_plugin, see_that_some_was_read
from sglang_conformance.radar.plugin import PLATFORMS, PLUGINS, Plugin, PluginError
from sglang_conformance.radar.reading.code import Code

from .made import PYPROJECT, write

POINTS = "[sglang.srt.platforms]\nvendor = vendor:activate\n\n[console_scripts]\nvendor-cli = vendor.cli:main\n"
CFG = """
[metadata]
name = vendor
version = 1.2

[options.entry_points]
sglang.srt.platforms =
    vendor = vendor:activate
sglang.srt.plugins =
    vendor_hooks = vendor.hooks:register
"""


def opened(path: Path | str) -> Plugin:
    return open_plugin(str(path))


def names(plugin: Plugin) -> list[tuple[str, str, str]]:
    return [(p.group, p.name, p.value) for p in plugin.entry_points if p.group in (PLATFORMS, PLUGINS)]


BOTH = [(PLATFORMS, "vendor", "vendor:activate"), (PLUGINS, "vendor_hooks", "vendor.hooks:register")]


def test_folder_with_pyproject(tmp_path: Path) -> None:
    plugin = opened(write(tmp_path, {}))
    assert (plugin.name, plugin.version, plugin.unread) == ("vendor", "1.2", ())
    assert names(plugin) == BOTH
    assert {file.module for file in plugin.files} == {"vendor", "vendor.hooks", "vendor.platform"}
    assert {file.name for file in plugin.files} == {"vendor/__init__.py", "vendor/hooks.py", "vendor/platform.py"}


def test_folder_with_poetry(tmp_path: Path) -> None:
    text = '[tool.poetry]\nname = "vendor"\nversion = "1.2"\n'
    text += '[tool.poetry.plugins."sglang.srt.platforms"]\nvendor = "vendor:activate"'
    plugin = opened(write(tmp_path, {}, text))
    assert (plugin.name, plugin.version, names(plugin)) == ("vendor", "1.2", BOTH[:1])


def test_folder_with_setup_cfg(tmp_path: Path) -> None:
    plugin = opened(write(tmp_path, {"setup.cfg": CFG}, ""))
    assert (plugin.name, plugin.version, names(plugin)) == ("vendor", "1.2", BOTH)


@pytest.mark.parametrize(
    "entry_points",
    [
        '{"sglang.srt.platforms": ["vendor = vendor:activate"]}',
        '{"sglang.srt.platforms": "vendor = vendor:activate"}',
        "POINTS",
        "{GROUP: [f'vendor = {NAME}:activate']}",
        "{'sglang.srt.' + 'platforms': ['vendor = ' + NAME + ':activate'] + []}",
        '"""\n[sglang.srt.platforms]\nvendor = vendor:activate\n"""',
    ],
)
def test_folder_with_setup_py(tmp_path: Path, entry_points: str) -> None:
    setup = 'from setuptools import setup\nPOINTS = {"sglang.srt.platforms": ["vendor = vendor:activate"]}\n'
    setup += 'NAME = "vendor"\nGROUP = f"sglang.srt.platforms"\n'
    plugin = opened(write(tmp_path, {"setup.py": f'{setup}setup(name="vendor", entry_points={entry_points})'}, ""))
    assert names(plugin) == BOTH[:1]


def test_version_that_setup_cfg_takes_from_elsewhere(tmp_path: Path) -> None:
    text = CFG.replace("version = 1.2", "version = attr: vendor.__version__")
    assert opened(write(tmp_path, {"setup.cfg": text}, "")).version == ""


def test_folder_with_setup_py_that_hands_a_table_on(tmp_path: Path) -> None:
    setup = 'ALL = dict(name="vendor", entry_points={"sglang.srt.platforms": ["vendor=vendor:activate"]})\nsetup(**ALL)'
    assert names(opened(write(tmp_path, {"setup.py": setup}, ""))) == BOTH[:1]


def test_setup_py_that_never_ends_is_told(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"setup.py computes its entry_points"):
        opened(write(tmp_path, {"setup.py": "A = [B]\nB = [A]\nsetup(name='v', entry_points=A)"}, ""))


def test_computed_entry_points_are_told(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"setup.py computes its entry_points"):
        opened(write(tmp_path, {"setup.py": "setup(name='v', entry_points=read())"}, ""))


def test_folder_with_egg_info(tmp_path: Path) -> None:
    assert names(opened(write(tmp_path, {"vendor.egg-info/entry_points.txt": POINTS}, ""))) == BOTH[:1]


@pytest.mark.parametrize("home", ["src", "python", "plugins/vendor"])
def test_package_in_a_folder_below(tmp_path: Path, home: str) -> None:
    write(tmp_path, {})
    (tmp_path / home).mkdir(parents=True)
    (tmp_path / "vendor").rename(tmp_path / home / "the")
    (tmp_path / home / "the").rename(tmp_path / home / "vendor")
    assert {file.module for file in opened(tmp_path).files} == {"vendor", "vendor.hooks", "vendor.platform"}


def test_tests_of_the_plugin_are_not_the_plugin(tmp_path: Path) -> None:
    plugin = opened(write(tmp_path, {"vendor/tests/test_it.py": "import sglang.nope"}))
    assert "vendor.tests.test_it" not in {file.module for file in plugin.files}


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path, {"vendor/broken.py": "def (", "vendor/ops.so": "", "vendor/latin.py": "x = 1"})
    (folder / "vendor/latin.py").write_bytes(b"x = '\xff'")
    plugin = opened(folder)
    code = Code.of(plugin)
    assert plugin.unread == ("vendor/ops.so is compiled: what it does with SGLang is not judged",)
    assert [line.partition(":")[0] for line in code.unread] == [
        "cannot parse vendor/broken.py",
        "cannot parse vendor/latin.py",
    ]
    assert "vendor.platform" in code.modules


def test_module_of_an_entry_point_that_is_not_there_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path, {}, PYPROJECT.replace("vendor.hooks:", "vendor.hoks:"))
    assert opened(folder).unread == ("vendor.hoks: no such module was found in vendor",)


def wheel(folder: Path, files: dict[str, str]) -> Path:
    path = folder / "vendor-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_wheel(tmp_path: Path) -> None:
    files = {"vendor/__init__.py": "", "vendor/_c.abi3.so": "", "vendor-1.2.dist-info/entry_points.txt": POINTS}
    plugin = opened(wheel(tmp_path, files))
    assert (plugin.name, plugin.version, names(plugin)) == ("vendor", "1.2", BOTH[:1])
    assert [file.module for file in plugin.files] == ["vendor"]
    assert plugin.unread == ("vendor/_c.abi3.so is compiled: what it does with SGLang is not judged",)


def test_wheel_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"no entry_points\.txt"):
        opened(wheel(tmp_path, {"other/__init__.py": ""}))
    points = "[console_scripts]\na = b:c\n"
    with pytest.raises(PluginError, match=r"declares no entry point in the group sglang\.srt\.platforms"):
        opened(wheel(tmp_path, {"vendor-1.2.dist-info/entry_points.txt": points}))


def test_what_is_no_plugin_is_refused_without_its_compiled_modules(tmp_path: Path) -> None:
    files = {
        "other-1.2.dist-info/METADATA": "Name: other\nVersion: 1.2\n",
        "other-1.2.dist-info/RECORD": "other/_c.so,,\n",
    }
    installed(tmp_path, {**files, "other/_c.so": ""})
    with pytest.raises(PluginError) as caught:
        open_installed("other", tmp_path)
    assert "declares no entry point in the group" in str(caught.value)
    assert "compiled" not in str(caught.value)


def test_plugin_of_which_nothing_was_read_is_not_said_to_work(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    plugin = opened(tmp_path)
    with pytest.raises(PluginError, match=r"nothing of vendor could be read: vendor: no such package was found in"):
        see_that_some_was_read(plugin)
    assert main(["radar", str(tmp_path)]) == 2
    see_that_some_was_read(opened(write(tmp_path, {})))


def test_file_that_is_no_wheel(tmp_path: Path) -> None:
    path = tmp_path / "plugin.txt"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(PluginError, match=r"is not a readable wheel \(.*\); name a whole one, or a source folder"):
        opened(path)


def test_folder_without_a_plugin(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"declares no entry point .*, or the folder that has its pyproject\.toml"):
        opened(tmp_path)


def test_broken_pyproject_is_told(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"pyproject.toml is not TOML"):
        opened(write(tmp_path, {}, "[project"))


def installed(folder: Path, files: dict[str, str], record: str | None = None) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    info = folder / "vendor-1.2.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(POINTS, encoding="utf-8")
    lines = record if record is not None else "".join(f"{name},,\n" for name in files)
    (info / "RECORD").write_text(lines, encoding="utf-8")


@pytest.mark.parametrize("name", ["vendor", "Vendor"])
def test_installed_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    installed(tmp_path, {"vendor/__init__.py": "", "vendor/more.py": ""}, "vendor/__init__.py,,\nvendor/gone.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = opened(name)
    assert (plugin.name, plugin.version, names(plugin)) == ("vendor", "1.2", BOTH[:1])
    assert [file.module for file in plugin.files] == ["vendor"]
    assert plugin.unread == ("vendor/gone.py is listed by vendor, but is not there",)
    assert "vendor" not in sys.modules


def test_installed_by_the_name_of_its_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, {"other/__init__.py": ""})
    (tmp_path / "vendor-1.2.dist-info/entry_points.txt").write_text("[sglang.srt.platforms]\nacme = other:a\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert opened("acme").name == "vendor"


def test_editable_installation_is_read_where_its_source_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "source", {})
    installed(tmp_path / "site", {})
    url = f'{{"url": "{source.as_uri()}", "dir_info": {{"editable": true}}}}'
    (tmp_path / "site/vendor-1.2.dist-info/direct_url.json").write_text(url, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plugin = opened("vendor")
    assert names(plugin) == BOTH[:1]  # those that are installed, not those of the source
    assert {file.module for file in plugin.files} == {"vendor", "vendor.hooks", "vendor.platform"}


def test_name_that_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", list)
    with pytest.raises(
        PluginError, match=r"nothing-of-the-kind is no file, folder or installed distribution; .*: none"
    ):
        opened("nothing-of-the-kind")


@pytest.mark.parametrize("name", ["here/is/none", "none-1.0-py3-none-any.whl"])
def test_path_that_is_not_there(name: str) -> None:
    with pytest.raises(PluginError, match="does not exist"):
        opened(name)


def test_installed_without_a_list_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, {"vendor/__init__.py": "", "vendor/more.py": "", "deep/er/vendor/__init__.py": "1"})
    (tmp_path / "vendor-1.2.dist-info/RECORD").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = open_plugin("vendor")
    assert [file.module for file in plugin.files] == ["vendor", "vendor.more"]
    assert plugin.unread == ()
