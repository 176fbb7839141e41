"""Classes and functions that the platform hands out, and that SGLang makes and calls with arguments of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ..finding import Finding, Severity
from ..reading.classes import lineage
from ..reading.facts import Place
from ..reading.fits import Given, Parameters, misfit
from ..reading.host import arguments
from ..reading.observe import Seen
from ..reading.values import Bound, Class, Const, Func, Instance, Value, alternatives

_ALLOCATOR = ("page_size", "dtype", "device", "kvcache", "need_sort")
_LOCATIONS = "req_pool_indices req_to_token start_offset end_offset batch_size draft_token_num device"


@dataclass(frozen=True)
class Made:
    """How SGLang makes an object of what a member gives, or calls it. ``sure``: whenever it is asked for."""

    given: Given
    sure: bool = True
    since: str = ""


# The requirements of the area FAC say the same, with the lines of SGLang (requirements/catalogue/08-factories.toml).
_MADE: dict[str, tuple[Made, ...]] = {
    "get_graph_runner_cls": (
        Made(Given(1)),
        Made(Given(1, ("attn_backend", "speculative_num_steps", "speculative_num_draft_tokens")), False, "0.5.23"),
    ),
    "get_full_graph_backend_cls": (Made(Given(1, ("enable_memory_saver",))),),
    "get_piecewise_backend_cls": (Made(Given(9)),),
    "get_paged_allocator_cls": (Made(Given(1, _ALLOCATOR)),),
    "get_speculative_worker_cls": (Made(Given(0, ("server_args", "gpu_id", "nccl_port", "target_worker"))),),
    "get_speculative_cache_locs_fn": (Made(Given(0, tuple(_LOCATIONS.split()))),),
}
_FUNCTIONS = frozenset({"get_speculative_cache_locs_fn"})
_POOLS = "sglang.srt.mem_cache.memory_pool."
# The class that a platform's pool stands for, by the member that hands it out (srt/mem_cache, 0.5.11 to 0.5.23).
_POOL_OF = {
    "get_mha_kv_pool_cls": "MHATokenToKVPool",
    "get_mla_kv_pool_cls": "MLATokenToKVPool",
    "get_nsa_kv_pool_cls": "NSATokenToKVPool",
    "get_dsa_kv_pool_cls": "DSATokenToKVPool",
}


def find(seen: Seen) -> Iterator[Finding]:
    """Each class or function of the plugin that a member gives, and that SGLang cannot use as it does."""
    for member, value in seen.returned.items():
        for each in alternatives(value):
            if member in _MADE:
                yield from _kind(seen, member, each)
                yield from _made(seen, member, each)
            elif member in _POOL_OF:
                yield from _kind(seen, member, each)
                yield from _pool(seen, member, each)


def _kind(seen: Seen, member: str, value: Value) -> Iterator[Finding]:
    """What is handed out is a class, not a path to one and not an object of one."""
    text = isinstance(value, Const) and isinstance(value.value, str)
    if not text and not isinstance(value, Instance):
        return
    found = seen.release.contract.member(member)
    site = f"; core uses it at {found.calls[0]}" if found is not None and found.calls else ""
    yield Finding(
        "factory",
        Severity.BREAKS,
        member,
        f"{member} gives {'a text' if text else 'an object'}, where SGLang takes a {_thing(member)}",
        _place(seen, member),
        f"SGLang calls what it is given{site}",
        f"import the {_thing(member)} in the method, and return it as it is",
    )


def _thing(member: str) -> str:
    return "function" if member in _FUNCTIONS else "class"


def _made(seen: Seen, member: str, value: Value) -> Iterator[Finding]:
    taken = _parameters(seen, value)
    if taken is None:
        return
    parameters, line = taken
    for made in _MADE[member]:
        why = misfit(made.given, parameters)
        if not why or not _holds(seen, made.since):
            continue
        yield Finding(
            "factory",
            Severity.BREAKS if made.sure else Severity.MAY_BREAK,
            f"{member}({', '.join(made.given.keywords)})",
            f"what {member} gives is not made as SGLang makes it",
            seen.place(line),
            f"SGLang gives it {made.given}: {why}",
            "take these arguments, or *args and **kwargs",
        )
        return


def _holds(seen: Seen, since: str) -> bool:
    names = seen.history.names
    return not since or (since in names and names.index(seen.release.name) >= names.index(since))


def _parameters(seen: Seen, value: Value) -> tuple[Parameters, Func] | None:
    """What making an object of a class, or calling a function, takes; None where that cannot be told."""
    if isinstance(value, (Func, Bound)):
        function = value.function if isinstance(value, Bound) else value
        bound = 1 if isinstance(value, Bound) and "staticmethod" not in function.marks else 0
        return None if function.opaque else (Parameters.of(function.node.args, bound=bound), function)
    if not isinstance(value, Class):
        return None
    init = _init(seen, value)
    return None if init is None else (Parameters.of(init.node.args, bound=1), init)


def _init(seen: Seen, of: Class) -> Func | None:
    """The plugin's own ``__init__`` of a class; None where it has another's, or ``__new__`` takes the arguments."""
    steps = lineage(of, seen.release).steps
    if any(isinstance(step, Class) and ("__new__" in step.names or step.node.keywords) for step in steps):
        return None
    for step in steps:
        if not isinstance(step, Class):
            return None
        init = step.names.get("__init__")
        if init is not None:
            plain = isinstance(init, Func) and not init.opaque and not isinstance(init.node, ast.Lambda)
            return init if plain and isinstance(init, Func) else None
    return None


def _pool(seen: Seen, member: str, value: Value) -> Iterator[Finding]:
    """A pool is made with what SGLang's own is made with, all by name."""
    path = _POOLS + _POOL_OF[member]
    own = seen.release.find(path)
    if not isinstance(value, Class) or own is None or own.symbol is None:
        return
    init, old = _init(seen, value), arguments(own.symbol.signature)
    if init is None or old is None:
        return
    taken, wanted = Parameters.of(init.node.args, bound=1), Parameters.of(old, bound=1)
    required = [*wanted.positional[: wanted.required], *(name for name, needed in wanted.keyword if needed)]
    lacking = [name for name in required if not taken.takes(name)]
    if lacking:
        yield Finding(
            "factory",
            Severity.BREAKS,
            member,
            f"the pool {value.name} of {member} is not made as SGLang's own is",
            seen.place(init),
            f"SGLang makes it as {own.path}, which requires {', '.join(lacking)}: it does not take that",
            "take what SGLang's pool takes, or **kwargs, and hand it on",
        )


def _place(seen: Seen, member: str) -> Place:
    for of in seen.lineages:
        for step in of.steps:
            found = step.names.get(member) if isinstance(step, Class) else None
            if isinstance(found, Func):
                return seen.place(found)
    raise LookupError(member)
