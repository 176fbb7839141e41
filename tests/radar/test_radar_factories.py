from __future__ import annotations

from pathlib import Path

import pytest

from .made import LAST, NEW, OLD, PYPROJECT, found, judged, platform, write

POOLS = "from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, MLATokenToKVPool\n"


# Declares graphs to every release: core asks for what captures them of such a platform alone.
GRAPHS = """
def support_cuda_graph(self):
    return True
def support_piecewise_cuda_graph(self):
    return True
@property
def capabilities(self):
    from sglang.srt.platforms.interface import PlatformCapabilities
    return PlatformCapabilities(graph_capture=True, piecewise_graph=True)
"""


def giving(folder: Path, member: str, value: str, before: str = "", declared: str = GRAPHS) -> Path:
    body = f"{declared}\ndef {member}(self, *args, **kwargs):\n    return {value}"
    return write(folder, {"vendor/platform.py": platform(body, before)})


# What core asks of what it has made, in any release.
OFFERED = "can_run = can_run_graph = capture_bs = capture_session = capture_one = replay_session = replay = None\n"
OFFERED += "    alloc = alloc_extend = alloc_decode = free = None"


def made_by(folder: Path, member: str, init: str, bases: str = "") -> Path:
    return giving(folder, member, "Made", f"{POOLS}class Made({bases}):\n    {OFFERED}\n    def __init__{init}: ...")


FIT = [
    ("get_graph_runner_cls", "(self, runner)"),
    ("get_graph_runner_cls", "(self, runner, *, attn_backend=None, speculative_num_steps=None, **more)"),
    ("get_full_graph_backend_cls", "(self, runner, *, enable_memory_saver)"),
    ("get_piecewise_backend_cls", "(self, a, b, c, d, e, f, g, h, i)"),
    ("get_piecewise_backend_cls", "(self, *args)"),
    ("get_paged_allocator_cls", "(self, size, page_size, dtype, device, kvcache, need_sort)"),
    ("get_paged_allocator_cls", "(self, size, **kwargs)"),
    ("get_speculative_worker_cls", "(self, *, server_args, gpu_id, nccl_port, target_worker, more=1)"),
    ("get_mha_kv_pool_cls", "(self, size, page_size, dtype, head_num, **kwargs)"),
]


@pytest.mark.parametrize(("member", "init"), FIT)
def test_class_that_is_made_as_sglang_makes_it(tmp_path: Path, member: str, init: str) -> None:
    assert [f for f in found(made_by(tmp_path, member, init), LAST) if f[0] == "factory"] == []


MISFIT = [
    ("get_graph_runner_cls", "(self)"),
    ("get_graph_runner_cls", "(self, runner, backend)"),
    ("get_full_graph_backend_cls", "(self, runner)"),
    ("get_piecewise_backend_cls", "(self, a, b, c, d, e, f, g, h)"),
    ("get_paged_allocator_cls", "(self, size, page_size, dtype, device, kvcache)"),
    ("get_mha_kv_pool_cls", "(self, size, page_size, dtype)"),
    ("get_mla_kv_pool_cls", "(self, size, page_size, dtype, head_num, **kwargs)"),
]


@pytest.mark.parametrize(("member", "init"), MISFIT)
def test_class_that_is_not_made_as_sglang_makes_it(tmp_path: Path, member: str, init: str) -> None:
    ((kind, severity, subject),) = found(made_by(tmp_path, member, init), LAST)
    assert (kind, severity, subject.partition("(")[0]) == ("factory", "breaks", member)


def test_runner_that_speculation_makes_otherwise_may_break(tmp_path: Path) -> None:
    folder = made_by(tmp_path, "get_graph_runner_cls", "(self, runner)")
    assert [f[:2] for f in found(folder, NEW)] == [("factory", "may break")]


RUNNER = """
class Runner:
    def __init__(self, runner, **more):
        self.capture_bs = []
    def can_run{0}(self, batch): ...
"""


def test_what_core_asks_of_the_runner_that_it_has_made(tmp_path: Path) -> None:
    old = giving(tmp_path / "old", "get_graph_runner_cls", "Runner", RUNNER.format(""))
    assert found(old, OLD) == []
    assert found(old, NEW) == [("factory", "breaks", "get_graph_runner_cls: can_run_graph")]
    new = giving(tmp_path / "new", "get_graph_runner_cls", "Runner", RUNNER.format("_graph"))
    assert found(new, OLD) == [("factory", "breaks", "get_graph_runner_cls: can_run")]
    assert found(new, NEW) == []


@pytest.mark.parametrize(
    "before",
    [
        "class Runner:\n    def __init__(self, runner, **more): ...\n    def __getattr__(self, name): ...",
        "class Runner:\n    def __init__(self, runner, **more):\n        setattr(self, 'can_run' + '_graph', 1)",
        "from sglang.srt.core import Worker\nclass Runner(Worker):\n    def __init__(self, runner, **more): ...",
        "import vendor_lib\n@vendor_lib.runner\nclass Runner:\n    def __init__(self, runner, **more): ...",
    ],
)
def test_runner_that_may_have_it_all_the_same(tmp_path: Path, before: str) -> None:
    assert found(giving(tmp_path, "get_graph_runner_cls", "Runner", before), NEW) == []


@pytest.mark.parametrize("release", [OLD, LAST, NEW])
@pytest.mark.parametrize("member", ["get_graph_runner_cls", "get_full_graph_backend_cls", "get_piecewise_backend_cls"])
def test_core_asks_no_platform_without_graphs_for_what_captures_them(tmp_path: Path, member: str, release: str) -> None:
    folder = giving(tmp_path, member, "Made", "class Made: ...", declared="")
    assert [f for f in found(folder, release) if f[0] == "factory"] == []


@pytest.mark.parametrize("value", ["'vendor.Runner'", "Runner()"])
def test_what_is_no_class(tmp_path: Path, value: str) -> None:
    folder = giving(tmp_path, "get_graph_runner_cls", value, "class Runner: ...")
    assert found(folder, NEW) == [("factory", "breaks", "get_graph_runner_cls")]


@pytest.mark.parametrize(
    ("value", "before"),
    [
        ("None", ""),
        ("vendor_lib.Runner", "import vendor_lib"),
        ("Runner", "import vendor_lib\nclass Runner(vendor_lib.R): ..."),
        ("Runner", "class Meta(type): ...\nclass Runner(metaclass=Meta):\n    def __init__(self): ..."),
        ("Runner", "class Runner:\n    def __new__(cls, *a): ...\n    def __init__(self): ..."),
        ("Runner", "import functools\nRunner = functools.partial(print, 1)"),
    ],
)
def test_what_cannot_be_told_is_not_blamed(tmp_path: Path, value: str, before: str) -> None:
    assert found(giving(tmp_path, "get_graph_runner_cls", value, before), NEW) == []


def test_pool_of_another_kind(tmp_path: Path) -> None:
    before = f"{POOLS}class Pool(MHATokenToKVPool): ...\n"
    folder = giving(tmp_path, "get_kv_pool_cls", "Pool if kwargs['kind'] == 'mha' else None", before)
    assert found(folder, NEW) == [("factory", "breaks", f"get_kv_pool_cls({kind})") for kind in ("dsa", "mla")]


def test_pool_for_its_kind_only(tmp_path: Path) -> None:
    body = "def get_kv_pool_cls(self, *, kind):\n    return {'mha': Pool}.get(kind)"
    text = platform(body, f"{POOLS}class Pool(MHATokenToKVPool): ...\n")
    assert found(write(tmp_path, {"vendor/platform.py": text}), NEW) == []


def test_legacy_pool_is_asked_through_the_default(tmp_path: Path) -> None:
    folder = giving(tmp_path, "get_mla_kv_pool_cls", "Pool", f"{POOLS}class Pool(MHATokenToKVPool): ...\n")
    assert found(folder, LAST) == []
    assert found(folder, NEW) == [
        ("factory", "breaks", "get_mla_kv_pool_cls(mla)"),
        ("superseded", "deprecated", "get_mla_kv_pool_cls"),
    ]


@pytest.mark.parametrize(
    ("init", "fits"),
    [
        ("(self, *args, **kwargs)", True),
        ("(self, many, page_size, dtype, head_num, layout, end_layer=0)", True),
        ("(self, size, page_size, dtype, head_num, layout)", False),
        ("(self, size, page_size, dtype, head_num)", False),
    ],
)
def test_pool_is_made_as_sglangs_own(tmp_path: Path, init: str, fits: bool) -> None:
    body = "def get_kv_pool_cls(self, *, kind):\n    if kind == 'mha':\n        return Pool\n    return None"
    before = f"{POOLS}class Pool(MHATokenToKVPool):\n    def __init__{init}: ..."
    folder = write(tmp_path, {"vendor/platform.py": platform(body, before)})
    assert found(folder, NEW) == ([] if fits else [("factory", "breaks", "get_kv_pool_cls(mha)")])


def test_variable_that_sglang_has_no_more(tmp_path: Path) -> None:
    before = "import os\nA = os.environ.get('SGLANG_OLD'), os.getenv('SGLANG_KEPT'), os.environ['SGLANG_OF_VENDOR']"
    folder = write(tmp_path, {"vendor/platform.py": platform("", before)})
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("variable", "deprecated", "SGLANG_OLD")]


@pytest.mark.parametrize(
    ("line", "does"),
    [
        ("os.environ[NAME] = '1'", "sets"),
        ("os.environ[NAME]", "reads"),
        ("NAME in os.environ", "reads"),
        ("os.environ.get(f'SGLANG_{NAME[-3:]}')", "reads"),
        ("get_bool_env_var(NAME)", "reads"),
    ],
)
def test_variable_is_read_and_set_in_many_ways(tmp_path: Path, line: str, does: str) -> None:
    before = f"import os\nfrom sglang.srt.environ import get_bool_env_var\nNAME = 'SGLANG_OLD'\n{line}"
    (finding,) = [
        f
        for f in judged(write(tmp_path, {"vendor/platform.py": platform("", before)}), NEW).findings
        if f.kind == "variable"
    ]
    assert finding.what == f"{does} SGLANG_OLD, which SGLang has no more"


def test_variable_read_off_the_registry_breaks(tmp_path: Path) -> None:
    before = "from sglang.srt.environ import envs"
    folder = write(
        tmp_path, {"vendor/platform.py": platform("def init_backend(self):\n    envs.SGLANG_OLD.get()", before)}
    )
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("attribute", "breaks", "sglang.srt.environ.Envs.SGLANG_OLD")]


def test_variable_that_sglang_warns_of(tmp_path: Path) -> None:
    before = "import os\nA = os.environ.get('SGLANG_USE_TRITON_ROUTER_SUM')"
    folder = write(tmp_path, {"vendor/platform.py": platform("", before)})
    assert found(folder, NEW) == [("variable", "deprecated", "SGLANG_USE_TRITON_ROUTER_SUM")]


def reachable(folder: Path, release: str) -> set[str]:
    return {f.subject for f in judged(folder, release).findings if f.kind == "reachable"}


def test_members_that_core_asks_for_become_reachable(tmp_path: Path) -> None:
    folder = write(tmp_path, {})
    assert "get_device" not in reachable(folder, OLD)
    assert {"get_device", "get_device_uuid", "get_group_coordinator_device"} <= reachable(folder, NEW)
    assert "synchronize" not in reachable(folder, NEW)  # its default does nothing, which is an answer


def test_member_that_the_plugin_has_is_not_reachable(tmp_path: Path) -> None:
    text = platform("", mixin="def get_device(self, device_id=0):\n    return 'v'")
    assert "get_device" not in reachable(write(tmp_path, {"vendor/platform.py": text}), NEW)


def test_default_of_a_platform_of_sglangs_own_is_no_default(tmp_path: Path) -> None:
    text = platform("", "import torch_vendor", "torch_vendor.Platform, VendorMixin, SRTPlatform")
    assert reachable(write(tmp_path, {"vendor/platform.py": text}), NEW) == set()


SPECULATING = "get_default_speculative_draft_attention_backend"


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ("", False),
        ("def supports_speculative_algorithm(self, algorithm):\n    return False", False),
        ("def supports_speculative_algorithm(self, algorithm):\n    return algorithm == 'DFLASH'", True),
    ],
)
def test_what_core_asks_only_those_who_can(tmp_path: Path, body: str, asked: bool) -> None:
    folder = write(tmp_path, {"vendor/platform.py": platform(body)})
    assert (SPECULATING in reachable(folder, NEW)) is asked


NO_GRAPHS = "def support_cuda_graph(self):\n    return False\n"
MAYBE_GRAPHS = "def support_cuda_graph(self):\n    return self.device_type == 'a'\n"


@pytest.mark.parametrize(
    ("declared", "old", "new"),
    [
        (NO_GRAPHS, False, False),
        (MAYBE_GRAPHS, True, False),
        (f"{NO_GRAPHS}capabilities = PlatformCapabilities(graph_capture=True)", False, True),
        (f"{MAYBE_GRAPHS}capabilities = PlatformCapabilities(supports_triton=True)", True, False),
        (f"{MAYBE_GRAPHS}capabilities = PlatformCapabilities(**unknown)", True, True),
        (f"{MAYBE_GRAPHS}def __init__(self):\n    self.capabilities = self._mine()", True, True),
    ],
)
def test_runner_of_a_platform_that_declines_graphs_is_not_asked_for(
    tmp_path: Path, declared: str, old: bool, new: bool
) -> None:
    before = "try:\n    from sglang.srt.platforms.interface import PlatformCapabilities\n"
    before += "except ImportError:\n    PlatformCapabilities = dict"
    runner = "def get_graph_runner_cls(self):\n    from sglang.srt import nothing_of_the_kind"
    folder = write(tmp_path, {"vendor/platform.py": platform(f"{declared}\n{runner}", before)})
    assert (("import", "breaks", "sglang.srt.nothing_of_the_kind") in found(folder, OLD)) is old
    assert (("import", "breaks", "sglang.srt.nothing_of_the_kind") in found(folder, NEW)) is new


def test_every_platform_is_judged_by_what_it_gives_itself(tmp_path: Path) -> None:
    body = "def get_kv_pool_cls(self, *, kind):\n    return {0}"
    wrong = platform(body.format("Pool if kind == 'mha' else None"), "class Pool: ...")
    points = PYPROJECT.replace('vendor = "vendor:activate"', 'vendor = "vendor:activate"\nother = "vendor:other"')
    files = {
        "vendor/__init__.py": "def activate():\n    return 'vendor.platform.VendorPlatform'\n"
        "def other():\n    return 'vendor.other.VendorPlatform'",
        "vendor/platform.py": wrong,
        "vendor/other.py": platform(body.format("None")),
    }
    assert found(write(tmp_path, files, points), NEW) == [("factory", "breaks", "get_kv_pool_cls(mha)")]


def test_capabilities_that_an_object_sets_take_the_place_of_flags(tmp_path: Path) -> None:
    body = f"{MAYBE_GRAPHS}def __init__(self):\n    self.capabilities = None"
    assert found(write(tmp_path, {"vendor/platform.py": platform(body)}), NEW) == []
