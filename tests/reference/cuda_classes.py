"""SGLang's classes of custom all-reduce on ranks whose devices are on the host: checks named by the tests."""

from __future__ import annotations

import contextlib
import gc
import importlib
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

import sglang_reference
from reference.cuda_groups import Noting, grouped
from reference.cuda_ranks import require_sum, values
from sglang_conformance.contract import tables
from sglang_conformance.ranks.rank import Rank
from sglang_reference._cuda_all_reduce.owner import Owner

_PARTS = "sglang.srt.distributed.device_communicators.custom_all_reduce"
_CPU = torch.device("cpu")


@contextlib.contextmanager
def hosted(rank: Rank, folder: str, release: str, linked: bool | None = True) -> Iterator[tuple[Any, Noting]]:
    """The modules of a release, on Hopper devices that NVLink joins, as far as they can tell."""
    warnings.simplefilter("ignore", DeprecationWarning)
    sglang_reference.uninstall()
    table = tables.load("0.5.23" if release == "0.5.23" else "0.5.11").to_json()
    sglang_reference.install({**table, "release": release})
    names = {"choice": "", "utils": "_utils", "second": "_v2"}
    modules = SimpleNamespace(**{name: importlib.import_module(_PARTS + end) for name, end in names.items()})
    first = importlib.import_module(modules.choice.CustomAllreduce.__module__)
    device = Noting()
    changes: list[tuple[Any, str, Any]] = [
        (modules.utils, "can_use_custom_all_reduce_with_nvlink", linked),
        (modules.choice, "kind_of_device", "cuda"),
        (first, "kind_of_device", "cuda"),
        (torch.cuda, "get_device_capability", (9, 0)),
        (Owner, "make_device", device),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(grouped(rank, folder))
        for where, name, answer in changes:
            stack.enter_context(mock.patch.object(where, name, return_value=answer))
        try:
            yield modules, device
        finally:
            sglang_reference.uninstall()


def small(release: str) -> dict[str, int]:
    """Sizes for which there is room on the host."""
    if release < "0.5.16":
        return {"max_pull_size": 1 << 15, "max_push_size": 1 << 12}
    return {"max_size": 1 << 15, "max_push_size": 1 << 12}


def summed(rank: Rank, made: Any, elements: int) -> None:
    given = [values(r, elements, elements, torch.float32) for r in range(rank.size)]
    require_sum(made.custom_all_reduce(given[rank.number]), given, f"{elements} elements")


def replayed(rank: Rank, made: Any, device: Noting, elements: int) -> list[str]:
    """What is launched in a capture: in the warm-up, and in the graph, which is replayed with new data."""
    source = device.tensor(torch.zeros(elements))
    before = len(device.launched)
    graph: list[Any] = []
    with made.capture():
        warm = made.custom_all_reduce(source)
        assert warm.shape == source.shape
        assert not warm.any()
        device.graph = graph
        out = made.custom_all_reduce(source)
        device.graph = None
    for turn in range(3):
        given = [values(r, turn, elements, torch.float32) for r in range(rank.size)]
        source.copy_(given[rank.number])
        for launch in graph:
            launch()
        require_sum(out, given, f"replay {turn}")
    return device.launched[before:]


def second(rank: Rank, folder: str, release: str) -> dict[str, Any]:
    """The second generation, chosen and used."""
    with hosted(rank, folder, release) as (modules, device):
        given = {"group": dist.group.WORLD, "device": _CPU}
        chosen = modules.choice.dispatch_custom_allreduce(**(given if release >= "0.5.13" else {}))
        made = modules.second.CustomAllReduceV2(**given, **small(release))
        assert not made.disabled, made.why_disabled
        found: dict[str, Any] = {
            "chosen": getattr(chosen, "__name__", ""),
            "sizes": [made.max_pull_size, made.max_push_size, made.max_size],
            "methods": sorted(name for name in dir(made) if not name.startswith("_")),
        }
        for elements in (4, 1024, 1028, 8192):
            assert made.should_custom_ar(torch.zeros(elements))
            summed(rank, made, elements)
        found["by size"] = list(device.launched)
        found["refused"] = [
            made.explain(tensor) for tensor in (torch.zeros(8196), torch.zeros(3), torch.zeros(8).int())
        ]
        assert not any(made.should_custom_ar(tensor) for tensor in (torch.zeros(8196), torch.zeros(3)))
        found["captured"] = replayed(rank, made, device, 2048)
        made.override_algo = SimpleNamespace(name="TWO_SHOT_PULL")
        device.launched.clear()
        summed(rank, made, 4)
        made.override_algo = None
        if release < "0.5.16":
            for shot in (2, 1, None):
                made.override_shot(shot)
                summed(rank, made, 2048)
        else:
            made.uncap_pull_thresholds()
            summed(rank, made, 8192)
        found["overridden"] = list(device.launched)
        if release >= "0.5.23":
            found["pushes"] = [
                [
                    made.uses_one_shot_push(nbytes),
                    made.uses_two_shot_push(nbytes),
                    made.supports_push(nbytes=nbytes, num_blocks=1),
                ]
                for nbytes in (0, 16, 4096, 4112)
            ]
            try:
                made.reserve_push_capacity(1 << 14)
            except RuntimeError as error:
                found["too late"] = str(error)
            roomy = modules.second.CustomAllReduceV2(**given, **small(release))
            roomy.reserve_push_capacity(1 << 10)
            sizes = [roomy.max_push_size]
            roomy.reserve_push_capacity((1 << 14) + 1)
            sizes += [roomy.max_push_size, roomy.max_size]
            roomy.override_algo = SimpleNamespace(name="ONE_SHOT_PUSH")
            summed(rank, roomy, 4096)
            roomy.override_algo = None
            found["reserved"] = [*sizes, roomy.uses_one_shot_push(4096), roomy.uses_one_shot_push(8192)]
            roomy.close()
        made.close()
        made.close()
        found["closed"] = [made.disabled, made.should_custom_ar(torch.zeros(4)), made.explain(torch.zeros(4))]
        with made.capture():
            pass
        held = device.held
        again = modules.second.CustomAllReduceV2(**given, **small(release))
        summed(rank, again, 4)
        dist.barrier()
        del again
        gc.collect()
        found["held"] = device.held - held
        return found


def first(rank: Rank, folder: str, release: str) -> dict[str, Any]:
    """The first generation, used."""
    with hosted(rank, folder, release) as (modules, device):
        made = modules.choice.CustomAllreduce(dist.group.WORLD, "cpu", 1 << 16)
        assert (made.disabled, made.original_disabled) == (False, False), made.why_disabled
        for elements in (4, 1 << 14):
            summed(rank, made, elements)
        found: dict[str, Any] = {"by size": list(device.launched)}
        refused = (torch.zeros((1 << 14) + 4), torch.zeros(3), torch.zeros(8, 8)[:, :4])
        found["refused"] = [made.explain(tensor) for tensor in refused]
        assert all(made.custom_all_reduce(tensor) is None for tensor in refused)
        found["captured"] = replayed(rank, made, device, 512)
        made.disabled = True
        assert made.custom_all_reduce(torch.zeros(4)) is None
        made.disabled = made.original_disabled
        summed(rank, made, 8)
        made.close()
        made.close()
        found["closed"] = [made.disabled, made.custom_all_reduce(torch.zeros(4)), device.held]
        return found


def without(rank: Rank, folder: str) -> list[Any]:
    """Both generations where the group cannot have them."""
    with hosted(rank, folder, "0.5.23", linked=None) as (modules, _):
        given = {"group": dist.group.WORLD, "device": _CPU}
        found = []
        for made in (modules.second.CustomAllReduceV2(**given), modules.choice.CustomAllreduce(**given)):
            with made.capture():
                pass
            found.append([made.disabled, made.should_custom_ar(torch.zeros(4)), made.why_disabled])
            made.close()
        assert modules.choice.CustomAllreduce(**given).custom_all_reduce(torch.zeros(4)) is None
        return found


def one_fails(rank: Rank, folder: str, generation: str) -> list[Any]:
    """Where one rank cannot make its memory, all are disabled."""
    with hosted(rank, folder, "0.5.23") as (modules, device):
        if rank.number == 1:

            def fail(length: int) -> int:
                raise MemoryError(f"no {length} bytes")

            device.allocate = fail  # type: ignore[method-assign]
        kind = modules.second.CustomAllReduceV2 if generation == "second" else modules.choice.CustomAllreduce
        made = kind(group=dist.group.WORLD, device=_CPU)
        return [made.disabled, made.should_custom_ar(torch.zeros(4)), made.why_disabled, device.held]
