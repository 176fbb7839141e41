"""Which custom all-reduce a group should have, as a table of what each generation demands.

It is written apart from the reference, from the releases of SGLang 0.5.11 to 0.5.23 (device_communicators/
custom_all_reduce*.py), and from what their defects taught: no release may take the second generation unasked, and each
step down goes to the next best.
"""

from __future__ import annotations

from typing import Any

SECOND, FIRST, NONE = "second", "first", "none"

MIB = 1 << 20
FIRST_MOST = {"cuda": 8 * MIB, "rocm": 16 * MIB, "musa": 16 * 8196 * 1024}
PACK = 16
DTYPES = ("float32", "float16", "bfloat16")


def generation(world: Any, release: str) -> str:
    """The generation for a world, which is any object with the attributes of ``suite.reducing.worlds.World``."""
    minor = int(release.split(".")[2])
    demanded = {SECOND: _second(world, minor), FIRST: _first(world)}
    return next((name for name, demands in demanded.items() if all(demands.values())), NONE)


def _second(world: Any, minor: int) -> dict[str, bool]:
    switched_on = world.second if world.second is not None else minor >= 12
    across = len(set(world.nodes)) > 1
    return {
        "made for it": world.kind == "cuda",
        "switched on": switched_on,
        "a size that has thresholds": world.size in second_sizes(minor, world.capability),
        "joined": _one_fabric(world) and minor >= 17 if across else _complete(world),
        "access": across or not world.closed,
    }


def _first(world: Any) -> dict[str, bool]:
    pair = world.size == 2 and world.kind != "rocm"
    return {
        "made for it": world.kind in FIRST_MOST,
        "a size that has kernels": world.size in {2, 4, 6, 8},
        "one machine": len(set(world.nodes)) == 1,
        "joined": pair or _complete(world),
        "access": world.kind == "rocm" or not world.closed,
    }


def second_sizes(minor: int, capability: tuple[int, int]) -> set[int]:
    """The sizes for which the second generation has thresholds."""
    to_eight, to_sixteen = set(range(2, 9)), set(range(2, 17))
    if minor < 17 or capability[0] == 9:
        return to_eight
    return to_eight | {16} if capability[0] == 10 else to_sixteen


def _complete(world: Any) -> bool:
    return bool(len(world.links) == world.size * (world.size - 1) // 2)


def _one_fabric(world: Any) -> bool:
    return bool(
        world.vmm and world.cliques and world.cliques[0] and world.cliques.count(world.cliques[0]) == world.size
    )
