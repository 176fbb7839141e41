"""Classes and functions that the platform hands out, and that SGLang makes and calls with arguments of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.version import Version

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


@dataclass(frozen=True)
class Asked:
    """What core asks of the objects that it has made, from ``since`` on and before ``until`` (empty: no bound)."""

    names: tuple[str, ...]
    since: str = ""
    until: str = ""


# FAC-020 to FAC-024 of the same catalogue.
_ASKED: dict[str, tuple[Asked, ...]] = {
    "get_graph_runner_cls": (
        Asked(("can_run",), until="0.5.14"),
        Asked(("can_run_graph",), since="0.5.14"),
        Asked(("capture_bs",), since="0.5.22"),
    ),
    "get_full_graph_backend_cls": (
        Asked(("capture_session", "capture_one", "can_run", "replay_session", "replay"), since="0.5.21"),
    ),
    "get_paged_allocator_cls": (Asked(("alloc", "alloc_extend", "alloc_decode", "free")),),
}
_HIDING = frozenset({"__getattr__", "__getattribute__", "__new__", "__setattr__"})
_DYNAMIC = frozenset({"setattr", "vars", "__dict__"})
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
                yield from _offers(seen, member, each)


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


def _holds(seen: Seen, since: str, until: str = "") -> bool:
    release = Version(seen.release.name)
    return (not since or release >= Version(since)) and (not until or release < Version(until))


def _offers(seen: Seen, member: str, value: Value) -> Iterator[Finding]:
    """What is made has the members that core asks it for. Of a class with bases elsewhere that cannot be told."""
    if not isinstance(value, Class):
        return
    steps = lineage(value, seen.release)
    own = [step for step in steps.steps if isinstance(step, Class)]
    if steps.open or len(own) != len(steps.steps) or any(_hides(step) for step in own):
        return
    has = {name for step in own for name in (*step.names, *step.instance)}
    asked = [a for a in _ASKED.get(member, ()) if _holds(seen, a.since, a.until)]
    lacking = [name for each in asked for name in each.names if name not in has]
    if lacking:
        yield Finding(
            "factory",
            Severity.BREAKS,
            f"{member}: {', '.join(lacking)}",
            f"what {member} gives has no {', '.join(lacking)}",
            seen.place(value),
            f"SGLang {seen.release.name} asks the object that it has made for it",
            f"define {', '.join(lacking)}",
        )


def _hides(of: Class) -> bool:
    """Whether objects of a class may have what its text does not show."""
    used = {n.id for n in ast.walk(of.node) if isinstance(n, ast.Name)}
    used |= {n.attr for n in ast.walk(of.node) if isinstance(n, ast.Attribute)}
    given = bool(of.node.keywords or of.node.decorator_list)
    return given or not _HIDING.isdisjoint(of.names) or not _DYNAMIC.isdisjoint(used)


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
