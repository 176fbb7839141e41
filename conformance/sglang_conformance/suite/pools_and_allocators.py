"""FAC: pools and allocators of the platform's classes, made as SGLang's core makes them and held against plain numbers.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from ..hosts import serving
from . import expect
from .aids import made_allocators, made_pools, pool_contents, worker
from .aids.made_allocators import Turns
from .aids.made_pools import SPARSE_PAGE, Form
from .aids.pool_contents import Contents
from .declare import in_probe, requirement
from .serving.allocating import Asked

FORMS = pool_contents.forms()


@requirement("FAC-029")
@in_probe
def test_pool_of_each_kind_is_made_as_sglang_makes_it(platform: Any, contract: Contract) -> str:
    missing: list[ImportError | expect.Declined] = []
    kinds = made_pools.kinds(contract)
    for kind in kinds:
        page = SPARSE_PAGE if kind == "dsa" else 4
        try:
            made_pools.made(platform, contract, Form(kind, page))
        except (ImportError, expect.Declined) as reason:
            missing.append(reason)
    if len(missing) == len(kinds):
        raise missing[0]
    return "; ".join(f"not seen: {reason}" for reason in missing)


@requirement("FAC-030")
@in_probe
@given(data=st.data())
def test_pool_gives_back_what_each_layer_was_given(platform: Any, contract: Contract, data: Any) -> None:
    form = data.draw(FORMS)
    contents = _contents(platform, contract, form)
    for write in data.draw(pool_contents.writes(form)):
        contents.write(write)
    contents.holds("after these writes")


@requirement("FAC-031")
@in_probe
@given(data=st.data())
def test_latent_pool_gives_back_what_each_layer_was_given(platform: Any, contract: Contract, data: Any) -> None:
    form = data.draw(pool_contents.forms("mla"))
    contents = _contents(platform, contract, form)
    for write in data.draw(pool_contents.writes(form)):
        contents.write(write)
    contents.holds("after these writes")


@requirement("FAC-032")
@in_probe
@given(data=st.data())
def test_latent_pool_takes_both_parts_of_the_keys(platform: Any, contract: Contract, data: Any) -> None:
    form = data.draw(pool_contents.forms("mla"))
    contents = _contents(platform, contract, form)
    for write in data.draw(pool_contents.writes(form)):
        contents.write_apart(write)
    contents.holds("after these writes")


@requirement("FAC-033")
@in_probe
@given(data=st.data())
def test_sparse_pool_gives_back_what_each_layer_was_given(platform: Any, contract: Contract, data: Any) -> None:
    form = data.draw(pool_contents.forms("dsa"))
    contents = _contents(platform, contract, form)
    for write in data.draw(pool_contents.writes(form)):
        contents.write(write)
    contents.holds("after these writes")


@requirement("FAC-034")
@in_probe
@given(data=st.data())
def test_pool_moves_what_slots_hold(platform: Any, contract: Contract, host: str, data: Any) -> None:
    form = data.draw(FORMS)
    if host == "installed" and not serving.triton_runs():
        os.environ["SGLANG_NATIVE_MOVE_KV_CACHE"] = (
            "1"  # SGLang's own pool then moves by torch, not by Triton's kernels
        )
    contents = _contents(platform, contract, form)
    for write in data.draw(pool_contents.writes(form, 4)):
        contents.write(write)
    sources, targets = _apart(data, form)
    pool = contents.made.pool
    call = f"move_kv_cache({targets}, {sources})"
    contents.made.does(call, lambda: pool.move_kv_cache(contents.indices(targets), contents.indices(sources)))
    contents.copied(sources, targets)
    contents.holds(f"pool.{call}")


@requirement("FAC-035")
@in_probe
@given(data=st.data())
def test_pool_brings_back_what_was_put_on_the_host(platform: Any, contract: Contract, data: Any) -> None:
    form = data.draw(FORMS)
    contents = _contents(platform, contract, form)
    for write in data.draw(pool_contents.writes(form, 4)):
        contents.write(write)
    sources, targets = _apart(data, form)
    pool = contents.made.pool
    call = f"get_cpu_copy({sources})"
    copy = _by_way_of_the_host(contents, call, lambda: pool.get_cpu_copy(contents.indices(sources)))
    call = f"load_cpu_copy(<the copy of {sources}>, {targets})"
    _by_way_of_the_host(contents, call, lambda: pool.load_cpu_copy(copy, contents.indices(targets)))
    contents.copied(sources, targets)
    contents.holds(f"pool.{call}")


@requirement("FAC-036")
@in_probe
@given(data=st.data(), said=made_allocators.turns(), need_sort=st.booleans())
def test_allocator_gives_no_slot_twice(
    platform: Any, contract: Contract, data: Any, said: Turns, need_sort: bool
) -> None:
    made_allocators.play(_asked(platform, contract, data, need_sort), said)


@requirement("FAC-037")
@in_probe
@given(data=st.data(), said=made_allocators.turns("extend", "extend", "decode", "free"), need_sort=st.booleans())
def test_allocator_says_when_it_is_full(
    platform: Any, contract: Contract, data: Any, said: Turns, need_sort: bool
) -> None:
    asked = _asked(platform, contract, data, need_sort)
    made_allocators.play(asked, said, beyond=True)
    asked.begin({"last": asked.pages.free * asked.pages.size + 1})
    asked.begin({"last": asked.pages.free * asked.pages.size})
    asked.begin({"later": 1})


@requirement("FAC-038")
@in_probe
@given(data=st.data(), said=made_allocators.turns("extend", "decode", "free"), need_sort=st.booleans())
def test_allocator_frees_in_groups(platform: Any, contract: Contract, data: Any, said: Turns, need_sort: bool) -> None:
    asked = _asked(platform, contract, data, need_sort)
    made_allocators.play(asked, [*said, ("extend", {"a": 1, "b": 1})], together=True)
    asked.end(sorted(asked.pages.owned), together=True)


@requirement("FAC-039")
@in_probe
@given(data=st.data(), said=made_allocators.turns("extend", "decode", "free", "shorten"), need_sort=st.booleans())
def test_allocator_takes_segments_back(
    platform: Any, contract: Contract, data: Any, said: Turns, need_sort: bool
) -> None:
    made_allocators.play(_asked(platform, contract, data, need_sort), said, segments=True)


@requirement("FAC-040")
@in_probe
@given(data=st.data(), said=made_allocators.turns("extend", "decode"), need_sort=st.booleans())
def test_allocator_goes_back_to_what_was_free(
    platform: Any, contract: Contract, data: Any, said: Turns, need_sort: bool
) -> None:
    asked = _asked(platform, contract, data, need_sort)
    made_allocators.play(asked, said[::2])
    restore = asked.back_up()
    made_allocators.play(asked, said[1::2])
    restore()
    made_allocators.play(asked, said)


@requirement("FAC-041")
@in_probe
@given(said=made_allocators.turns("extend", "extend", "decode", "free"))
def test_allocators_of_a_sliding_window_keep_step(platform: Any, contract: Contract, said: Turns) -> None:
    window = made_allocators.Window(platform, contract, 4)
    for turn in said:
        made_allocators.play(window.asked, [turn])
        window.is_whole()
    for name in sorted(window.asked.pages.owned):
        window.leave(name)
        window.asked.end([name])


def _contents(platform: Any, contract: Contract, form: Form) -> Contents:
    return Contents(made_pools.made(platform, contract, form), worker.devices(platform)[0])


def _by_way_of_the_host(contents: Contents, call: str, action: Callable[[], Any]) -> Any:
    """What comes of it. HostDefect where a method of SGLang's own speaks of CUDA, on another device (0.5.11,
    srt/mem_cache/memory_pool.py: ``torch.cuda.synchronize``).
    """
    try:
        return contents.made.does(call, action)
    except expect.Violation as violation:
        own = not expect.place_of(contents.made.pool, call.partition("(")[0])
        if own and contents.device.type != "cuda" and re.search("CUDA|NVIDIA", str(violation.finding["seen"])):
            raise expect.HostDefect(
                f"SGLang's own {call} waits for torch.cuda, whatever the device", violation
            ) from None
        raise


def _apart(data: Any, form: Form) -> tuple[list[int], list[int]]:
    """Slots, and as many others."""
    order = data.draw(st.permutations(form.slots))
    count = data.draw(st.integers(0, min(6, len(order) // 2)))
    return order[:count], order[count : 2 * count]


def _asked(platform: Any, contract: Contract, data: Any, need_sort: bool) -> Asked:
    page_size = data.draw(st.sampled_from(made_allocators.page_sizes(platform, contract)))
    return made_allocators.asked(platform, contract, page_size, need_sort=need_sort)
