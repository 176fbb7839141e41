"""The host's groups, whatever a release calls their sizes, and where a bare SGLang lacks what it takes for them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sglang_conformance.hosts import bare, groups

ALLOCATOR = "sglang.srt.distributed.device_communicators.pynccl_allocator"


@pytest.fixture
def sglang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for modules of an SGLang of our own, which is imported instead of any other."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "sglang"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "sglang"
    for name in [name for name in sys.modules if name.partition(".")[0] == "sglang"]:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    """A module of that SGLang, by its dotted name."""
    file = folder.parent.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    importlib.invalidate_caches()


def test_missing_package_covers_no_groups_and_is_named(sglang: Path) -> None:
    write(sglang, groups.STATE, "import absent_package")
    with pytest.raises(groups.NotCovered, match=r"it lacks absent_package; pip install absent_package$"):
        groups.state()


def test_missing_part_of_sglang_is_told_as_it_is(sglang: Path) -> None:
    write(sglang, groups.STATE, "import sglang.srt.gone")
    with pytest.raises(ModuleNotFoundError, match=r"sglang\.srt\.gone"):
        groups.state()


def test_module_that_takes_the_arguments_is_had_without_them(sglang: Path) -> None:
    write(sglang, groups.STATE, "")
    write(sglang, "sglang.srt.server_args", "import absent_package")
    write(sglang, ALLOCATOR, "from sglang.srt.server_args import get_global_server_args as ask")
    groups.load()
    with pytest.raises(ValueError, match="no server"):
        sys.modules[ALLOCATOR].ask()
    assert "sglang.srt.server_args" not in sys.modules  # whoever asks for it meets what it lacks


def test_arguments_that_are_there_are_taken(sglang: Path) -> None:
    write(sglang, groups.STATE, "")
    write(sglang, "sglang.srt.server_args", "def get_global_server_args(): return 'of the server'")
    write(sglang, ALLOCATOR, "from sglang.srt.server_args import get_global_server_args as ask")
    groups.load()
    assert sys.modules[ALLOCATOR].ask() == "of the server"


@pytest.mark.parametrize(("variable", "switch"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_sampler_stands_in_with_its_switch(
    variable: str, switch: bool, sglang: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_TOKEN_IDS_ACROSS_TP", variable)
    with bare.sampler():
        assert vars(sys.modules["sglang.srt.layers.sampler"])["SYNC_TOKEN_IDS_ACROSS_TP"] is switch
    assert "sglang.srt.layers.sampler" not in sys.modules


class Context:
    """The context that sizes are read from since 0.5.21."""

    def __init__(self) -> None:
        self.sizes: dict[str, Any] = {}

    def override_permanently(self, **sizes: Any) -> None:
        self.sizes.update(sizes)


def host(monkeypatch: pytest.MonkeyPatch, initialize: Any, context: Context | None = None) -> None:
    state = ModuleType(groups.STATE)
    vars(state)["initialize_model_parallel"] = initialize
    monkeypatch.setitem(sys.modules, groups.STATE, state)
    runtime = ModuleType("sglang.srt.runtime_context")
    vars(runtime)["get_parallel"] = lambda: context
    monkeypatch.setitem(sys.modules, runtime.__name__, runtime)


def test_sizes_are_arguments_where_the_host_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, int] = {}

    def initialize(tensor_model_parallel_size: int = 1, pipeline_model_parallel_size: int = 1) -> None:
        given.update(tp=tensor_model_parallel_size, pp=pipeline_model_parallel_size)

    host(monkeypatch, initialize)
    groups.lay_out(tp=2, pp=2, dcp=1)
    assert given == {"tp": 2, "pp": 2}
    with pytest.raises(ValueError, match="this release has no size for dcp"):
        groups.lay_out(tp=2, dcp=2)


def test_sizes_go_by_the_context_where_the_host_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    context, seen = Context(), list[Any]()
    host(monkeypatch, lambda backend=None: seen.append(dict(context.sizes)), context)
    groups.lay_out(tp=8, attn_cp=2, moe_ep=4)
    (sizes,) = seen
    assert (sizes["tp_size"], sizes["pp_size"], sizes["attn_cp_size"], sizes["attn_tp_size"]) == (8, 1, 2, 4)
    assert (sizes["moe_ep_size"], sizes["moe_tp_size"]) == (4, 2)
