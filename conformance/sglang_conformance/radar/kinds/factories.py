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
_COMMON = ("page_size", "dtype", "layer_num", "device", "enable_memory_saver", "start_layer", "end_layer")
_LATENT = (*_COMMON, "kv_lora_rank", "qk_rope_head_dim", "index_head_dim")
# How SGLang makes a pool up to 0.5.21 (0.5.11, srt/model_executor/model_runner_kv_cache_mixin.py:291 to 324; 0.5.21,
# srt/mem_cache/kv_cache_configurator.py:1421 to 1461). From 0.5.22 on it gives what its own pool of that kind takes.
_POOLS_MADE = {
    "get_mha_kv_pool_cls": Given(1, (*_COMMON, "head_num", "head_dim")),
    "get_mla_kv_pool_cls": Given(1, _LATENT),
    "get_nsa_kv_pool_cls": Given(1, (*_LATENT, "kv_cache_dim")),
    "get_dsa_kv_pool_cls": Given(1, (*_LATENT, "kv_cache_dim")),
}
# SGLang's own pools, by kind (0.5.22, srt/mem_cache/kv_cache_configurator.py).
_POOL_OF = {"mha": "MHATokenToKVPool", "mla": "MLATokenToKVPool", "dsa": "DSATokenToKVPool"}


def find(seen: Seen) -> Iterator[Finding]:
    """Each class or function of the plugin that a member gives, and that SGLang cannot use as it does."""
    for (member, kind), value in seen.returned.items():
        pool = kind in _POOL_OF or member in _POOLS_MADE
        for each in alternatives(value) if pool or member in _MADE else ():
            yield from _kind(seen, member, each)
            if kind in _POOL_OF:
                yield from _pool(seen, member, kind, each)
            else:
                yield from _made(seen, member, each)


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
    for made in _MADE.get(member) or (Made(_POOLS_MADE[member]),):
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


def _pool(seen: Seen, member: str, kind: str, value: Value) -> Iterator[Finding]:
    """A pool derives from SGLang's own of its kind, and is made with what that is made with."""
    own = seen.release.find(_POOLS + _POOL_OF[kind])
    if not isinstance(value, Class) or own is None or own.symbol is None:
        return
    steps = lineage(value, seen.release)
    if not steps.open and not steps.derives(own.path):
        yield Finding(
            "factory",
            Severity.BREAKS,
            f"{member}({kind})",
            f"the pool {value.name} of {member} is none of SGLang's kind {kind!r}",
            seen.place(value),
            f"SGLang raises TypeError for a class that does not derive from {own.path}",
            f"derive it from {_POOL_OF[kind]}, or give None for this kind",
        )
    init, old = _init(seen, value), arguments(own.symbol.signature)
    if init is None or old is None:
        return
    taken, wanted = Parameters.of(init.node.args, bound=1), Parameters.of(old, bound=1)
    # The first, the size, is given by place in some of the calls.
    required = [*wanted.positional[1 : wanted.required], *(name for name, needed in wanted.keyword if needed)]
    lacking = [name for name in required if not taken.takes(name)]
    if lacking:
        yield Finding(
            "factory",
            Severity.BREAKS,
            f"{member}({kind})",
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
