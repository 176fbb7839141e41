from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.contract.errors import ContractError
from sglang_conformance.contract.extract import extract
from sglang_conformance.contract.model import BackendSwitch, BackendTable, Default, EnvironmentVariable

Write = Callable[..., Path]


def wheel_of(folder: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "sglang-9.8.7-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted((folder / "sglang").rglob("*.py")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def test_every_field_of_a_small_package_is_read(sglang_tree: Write) -> None:
    contract = extract(sglang_tree())
    assert contract.release == "9.8.7"
    assert contract.groups == {"platforms": "group.platforms", "plugins": "group.plugins"}
    assert [e.name for e in contract.environment] == ["SGLANG_PLATFORM", "SGLANG_PLUGINS"]
    assert contract.platform_enum == ("CPU", "OOT", "UNSPECIFIED")
    assert contract.cpu_arch_enum == ("X86",)
    assert (contract.capabilities, contract.kv_pool_kinds, contract.legacy_kv_pool_hooks) == ({}, (), {})
    assert contract.backends == BackendTable({"cpu": "gloo", "cuda": "nccl"}, (), "gloo", asks_platform=False)
    assert contract.detection == ("tpu", "cpu")
    owners = {m.name: m.owner for m in contract.members}
    assert owners == {"_enum": "DeviceMixin", "device_name": "DeviceMixin", "synchronize": "DeviceMixin"} | {
        "get_thing": "SRTPlatform"
    }
    enum = contract.member("_enum")
    assert enum is not None
    assert enum.default == Default("returns", "UNSPECIFIED")


def test_a_tree_its_package_a_checkout_and_a_wheel_give_one_contract(sglang_tree: Write, tmp_path: Path) -> None:
    folder = sglang_tree({"srt/use.py": "from sglang.srt.platforms import current_platform as p\np.synchronize()\n"})
    whole = extract(folder)
    assert len(whole.called()) == 1
    assert extract(folder / "sglang") == whole
    assert extract(wheel_of(folder)) == whole
    shutil.copytree(folder / "sglang", tmp_path / "checkout" / "python" / "sglang")
    assert extract(tmp_path / "checkout") == whole


def test_newer_parts_of_the_contract_are_read(sglang_tree: Write) -> None:
    contract = extract(
        sglang_tree(
            {
                "srt/platforms/interface.py": """
KVPoolKind = Literal["wide", "flat"]
_LEGACY_KV_POOL_HOOKS: dict[str, str] = {"wide": "get_wide"}

class PlatformCapabilities(Struct):
    runs: bool = False
    walks: bool = True

class SRTPlatform(DeviceMixin):
    pass
"""
            }
        )
    )
    assert contract.capabilities == {"runs": False, "walks": True}
    assert contract.kv_pool_kinds == ("wide", "flat")
    assert contract.legacy_kv_pool_hooks == {"wide": "get_wide"}


@pytest.mark.parametrize(
    "value",
    ['"hccl" if not envs.SGLANG_LIMIT.get() > 7 else "zbal"', '"zbal" if envs.SGLANG_LIMIT.get() > 7 else "hccl"'],
)
def test_a_backend_that_depends_on_a_variable_becomes_a_switch(sglang_tree: Write, value: str) -> None:
    text = f"""
_DEVICE_TO_DISTRIBUTED_BACKEND: dict[str, str] = {{"npu": {value}, "cpu": "gloo"}}

def get_default_distributed_backend(device):
    if device == platform.device_type:
        return platform.get_torch_distributed_backend_str()
    return _DEVICE_TO_DISTRIBUTED_BACKEND.get(device, "mpi")
"""
    contract = extract(sglang_tree({"srt/distributed/parallel_state.py": text}))
    switch = BackendSwitch("npu", "SGLANG_LIMIT", 7, "zbal")
    assert contract.backends == BackendTable({"npu": "hccl", "cpu": "gloo"}, (switch,), "mpi", asks_platform=True)
    assert EnvironmentVariable("SGLANG_LIMIT", "int", 4) in contract.environment


def test_the_detection_order_is_that_of_the_text_however_deep(sglang_tree: Write) -> None:
    text = """
from sglang.srt.platforms import interface
from sglang.srt.platforms.a import A
from sglang.srt.platforms.b import B
from sglang.srt.platforms.c import C

def _resolve_platform():
    if envs.SGLANG_PLATFORM.get():
        return load()()
    if not activated:
        if slow():
            if very():
                return C()
        if b():
            return B()
        if again():
            return C()
    if a():
        return A()
    return interface.SRTPlatform()
"""
    assert extract(sglang_tree({"srt/platforms/__init__.py": text})).detection == ("c", "b", "a")


def test_a_table_beside_the_device_mixin_comes_first(sglang_tree: Write, tmp_path: Path) -> None:
    mixin = (sglang_tree() / "sglang/srt/platforms/device_mixin.py").read_text()
    table = '_DEVICE_TO_DISTRIBUTED_BACKEND = {"cpu": "mpi"}\n'
    contract = extract(sglang_tree({"srt/platforms/device_mixin.py": table + mixin}))
    assert contract.backends.table == {"cpu": "mpi"}


@pytest.mark.parametrize(
    ("read", "variable"),
    [
        ("envs.SGLANG_FLAG.get()", EnvironmentVariable("SGLANG_FLAG", "bool", True)),
        ("os.getenv('X')", EnvironmentVariable("X", "str", None)),
        ("os.environ.get('X', 'y')", EnvironmentVariable("X", "str", "y")),
        ("os.environ['X']", EnvironmentVariable("X", "str", None)),
        ("os.getenv('X', '0') == '1'", EnvironmentVariable("X", "bool", False)),
        ("os.getenv('X', '1') == '1'", EnvironmentVariable("X", "bool", True)),
        ("os.getenv('X') == 'fast'", EnvironmentVariable("X", "str", None)),
    ],
)
def test_a_variable_is_read_with_its_kind_and_default(
    sglang_tree: Write, read: str, variable: EnvironmentVariable
) -> None:
    contract = extract(sglang_tree({"srt/plugins/extra.py": f"def f():\n    return {read}\n"}))
    assert [e for e in contract.environment if e.name == variable.name] == [variable]


def test_what_a_built_in_platform_reads_for_itself_is_no_part_of_the_contract(sglang_tree: Write) -> None:
    contract = extract(sglang_tree({"srt/platforms/cuda.py": "import os\nx = os.environ['CUDA_VISIBLE_DEVICES']\n"}))
    assert [e.name for e in contract.environment] == ["SGLANG_PLATFORM", "SGLANG_PLUGINS"]


def test_the_release_comes_from_the_distribution_where_the_package_has_none(sglang_tree: Write) -> None:
    folder = sglang_tree({"_version.py": None, "version.py": "__version__ = compute()\n"})
    (folder / "sglang-1.2.3.dist-info").mkdir()
    assert extract(folder).release == "1.2.3"


def test_no_code_of_the_package_runs_and_its_warnings_stay_silent(sglang_tree: Write) -> None:
    text = "from sglang.srt.platforms import current_platform\nx = '\\d'\nraise SystemExit(3)\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract(sglang_tree({"srt/bad.py": text, "__init__.py": text})).release == "9.8.7"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"srt/platforms/interface.py": None}, "9.8.7 .* has no platform contract: .*interface.py is missing"),
        ({"srt/platforms/interface.py": "class Other: pass"}, "interface.py defines no class SRTPlatform"),
        ({"srt/platforms/interface.py": "class SRTPlatform(\n"}, "cannot parse sglang/srt/platforms/interface.py:1"),
        ({"srt/environ.py": "class Envs: pass"}, "does not declare SGLANG_PL"),
        ({"srt/environ.py": "class Envs:\n    SGLANG_PLATFORM = EnvJSON('')"}, "SGLANG_PLATFORM in a way not known"),
        ({"srt/distributed/parallel_state.py": "x = 1"}, "no table _DEVICE_TO_DISTRIBUTED_BACKEND"),
        (
            {"srt/distributed/parallel_state.py": "_DEVICE_TO_DISTRIBUTED_BACKEND = {}"},
            "defines no get_default_distributed_backend",
        ),
        ({"srt/plugins/__init__.py": "GENERAL_PLUGINS_GROUP = 'x'"}, "gives PLATFORM_PLUGINS_GROUP no text"),
        ({"srt/platforms/__init__.py": ""}, "defines no _resolve_platform"),
        ({"srt/use.py": "import current_platform as (\n"}, "cannot parse sglang/srt/use.py:1"),
        ({"_version.py": None}, r"cannot tell the release .*; write __version__ ="),
    ],
)
def test_a_package_that_cannot_be_read_is_one_clear_line(
    sglang_tree: Write, files: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        extract(sglang_tree(files))
    assert "\n" not in str(caught.value)


def test_a_backend_written_in_an_unknown_way_is_refused(sglang_tree: Write) -> None:
    text = '_DEVICE_TO_DISTRIBUTED_BACKEND = {"npu": pick()}\ndef get_default_distributed_backend(d): pass\n'
    with pytest.raises(ContractError, match=r"cannot read the entry 'pick\(\)'"):
        extract(sglang_tree({"srt/distributed/parallel_state.py": text}))


def test_a_path_that_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="does not exist"):
        extract(tmp_path / "absent")
    with pytest.raises(ContractError, match="is not an SGLang tree"):
        extract(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("not a wheel")
    with pytest.raises(ContractError, match="is not a readable wheel"):
        extract(text)
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(ContractError, match="is not an SGLang wheel"):
        extract(tmp_path / "other.whl")


def test_a_truncated_wheel_and_a_flipped_byte_are_refused(sglang_tree: Write) -> None:
    wheel = wheel_of(sglang_tree(), zipfile.ZIP_STORED)
    data = wheel.read_bytes()
    wheel.write_bytes(data[: len(data) // 2])
    with pytest.raises(ContractError, match="is not a readable wheel"):
        extract(wheel)
    wheel.write_bytes(data.replace(b"class DeviceMixin", b"class DeviceNixin"))
    with pytest.raises(ContractError, match=r"damaged at sglang/srt/platforms/device_mixin\.py"):
        extract(wheel)


def test_an_unreadable_file_is_refused(sglang_tree: Write) -> None:
    folder = sglang_tree({"srt/plugins/__init__.py": None})
    loop = folder / "sglang/srt/plugins/loop.py"
    loop.parent.mkdir(exist_ok=True)
    (loop.parent / "__init__.py").write_text("PLATFORM_PLUGINS_GROUP = GENERAL_PLUGINS_GROUP = 'x'\n")
    loop.symlink_to(loop)
    with pytest.raises(ContractError, match=r"cannot read .*loop\.py"):
        extract(folder)


def test_an_unreadable_folder_is_refused(sglang_tree: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sglang_tree({"srt/closed/use.py": ""})
    listed = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ContractError, match=r"cannot read .*closed: Permission denied"):
        extract(folder)


@pytest.mark.parametrize("release", tables.releases())
def test_the_bundled_table_is_what_the_released_wheel_says(release: str, wheel: Callable[[str], Path]) -> None:
    assert tables.dump(extract(wheel(release))) == tables.path(release).read_text()


def test_the_bundled_table_is_what_the_installed_package_says() -> None:
    spec = importlib.util.find_spec("sglang")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("SGLang is not installed in this environment")
    installed = extract(Path(next(iter(spec.submodule_search_locations))))
    if installed.release not in tables.releases():
        pytest.skip(f"no table is bundled for the installed SGLang {installed.release}")
    assert installed == tables.load(installed.release)
