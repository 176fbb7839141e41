from __future__ import annotations

import sys
from typing import Any

import pytest

from sglang_conformance.probes.client import Warm
from sglang_conformance.probes.world import World

NOTHING: dict[str, Any] = {
    "environment": {},
    "modules": [],
    "stubs": [],
    "patches": [],
    "settings": {},
    "threads": [],
    "signals": [],
    "folder": "",
    "paths": [],
    "devices": [],
}


def seen(warm: Warm, deed: str) -> dict[str, Any]:
    """What is seen of a deed, less what did not change."""
    result = warm.run("probes.jobs:observed", {"deed": deed}, world=World({"STANDING": "before", "DEED": None}))
    assert result.failure is None, result.failure
    return {name: value for name, value in result.value.items() if value != NOTHING[name]}


@pytest.mark.parametrize(
    "deed",
    [
        *("nothing", "logs_and_computes", "thread_that_ends", "adds_an_attribute"),
        *("adds_to_the_import_path", "draws_random_numbers", "registers_an_initialised_device"),
    ],
)
def test_what_changes_nothing_is_not_reported(torch_warm: Warm, deed: str) -> None:
    assert seen(torch_warm, deed) == {}


@pytest.mark.parametrize(
    ("deed", "expected"),
    [
        ("sets_a_variable", {"environment": {"DEED": [None, "1"]}}),
        ("changes_a_variable", {"environment": {"STANDING": ["before", "after"]}}),
        ("removes_a_variable", {"environment": {"STANDING": ["before", None]}}),
        ("imports_a_module", {"modules": ["colorsys"]}),
        ("plants_a_stub", {"modules": ["flash_attn"], "stubs": ["flash_attn"]}),
        ("starts_a_thread", {"threads": ["poller"]}),
        ("sets_a_signal_handler", {"signals": ["SIGTERM"]}),
        ("enters_another_folder", {"folder": "/"}),
        ("hides_what_is_on_the_import_path", {"paths": ["/opt/acme/lib"]}),
        ("says_its_device_is_initialised", {"devices": ["cuda"]}),
        ("changes_the_default_dtype", {"settings": {"default dtype": ["torch.float32", "torch.float64"]}}),
        ("silences_logging", {"settings": {"logging.disable": ["0", "50"]}}),
        ("claims_another_cuda", {"patches": ["torch.version.cuda"]}),
    ],
)
def test_each_change_is_reported_and_nothing_else(torch_warm: Warm, deed: str, expected: dict[str, Any]) -> None:
    assert seen(torch_warm, deed) == expected


@pytest.mark.parametrize(
    ("deed", "patched"),
    [
        ("patches_a_class_of_torch", "torch.Tensor.to"),
        ("patches_what_torch_inherits", "torch.Tensor.add"),
        ("patches_a_function_of_torch", "torch.zeros"),
        ("patches_with_a_class_instance", "torch.zeros"),
        ("removes_a_function", "torch.zeros"),
        ("replaces_a_class", "torch.cuda.Stream"),
        ("patches_a_class_method", "threading.Thread.start"),
        ("patches_the_standard_library", "os.getpid"),
    ],
)
def test_patch_is_reported_under_its_name_and_those_that_inherit_it(torch_warm: Warm, deed: str, patched: str) -> None:
    found = seen(torch_warm, deed)
    assert patched in found["patches"]
    assert {path.rpartition(".")[2] for path in found["patches"]} == {patched.rpartition(".")[2]}
    assert set(found) == {"patches"}


def test_import_of_a_watched_module_is_no_patch(torch_warm: Warm) -> None:
    found = seen(torch_warm, "imports_a_watched_module")
    assert "patches" not in found
    assert "torch.utils.cpp_extension" in found["modules"]
    assert "stubs" not in found


def test_what_torch_does_to_itself_is_not_reported(torch_warm: Warm) -> None:
    assert set(seen(torch_warm, "imports_torchs_compiler")) == {"modules"}


def test_seeding_is_told_from_drawing(torch_warm: Warm) -> None:
    assert set(seen(torch_warm, "seeds_random")["settings"]) == {"random's seed"}


def test_host_is_watched_under_whatever_module(torch_warm: Warm, tmp_path: Any) -> None:
    (tmp_path / "sglang" / "srt").mkdir(parents=True)
    (tmp_path / "sglang" / "srt" / "host.py").write_text("def answer():\n    return 1\n")
    world = World(paths=(str(tmp_path),))
    warm, result = torch_warm.warm("probes.jobs:imports_the_host", world=world)
    assert warm is not None, result.failure
    patched = warm.run("probes.jobs:observed", {"deed": "patches_a_host_that_is_imported"})
    assert patched.value["patches"] == ["sglang.srt.host.answer"]


def test_observing_leaves_this_process_as_it_was() -> None:
    from sglang_conformance.probes.observe import changes, observe

    before = set(sys.modules)
    moment = observe()
    assert changes(moment, observe()).to_json() == {
        **NOTHING,
        **{name: () for name, value in NOTHING.items() if value == []},
    }
    assert set(sys.modules) == before
