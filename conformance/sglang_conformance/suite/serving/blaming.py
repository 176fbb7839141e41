"""Whose a fault of serving is: the member of the platform that gave what computed a number, or what raised an error.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ...journey.attaching import watched
from ...journey.birth import Birth
from ...journey.served import Served
from .. import expect

_POOLS = ("get_kv_pool_cls", "get_mha_kv_pool_cls", "get_mla_kv_pool_cls", "get_nsa_kv_pool_cls", "get_dsa_kv_pool_cls")
_ATTENTION = ("get_default_attention_backend", "apply_server_args_defaults")
_WEIGHTS = ("post_load_model", "get_quantization_config")

# Of each kind of operator: which members of the platform give what computes it, and which part of the server that is.
MEMBERS: Mapping[str, tuple[str, ...]] = {
    "embedding": _WEIGHTS,
    "linear": _WEIGHTS,
    "logits": _WEIGHTS,
    "router": _WEIGHTS,
    "experts": _WEIGHTS,
    "residual": ("get_dispatch_key_name", *_WEIGHTS),
    "norm": ("get_dispatch_key_name", *_WEIGHTS),
    "activation": ("get_dispatch_key_name",),
    "rope": ("get_dispatch_key_name",),
    "topk": ("get_dispatch_key_name",),
    "pool": _POOLS,
    "allocator": ("get_paged_allocator_cls",),
    "attention": _ATTENTION,
    "reduction": ("get_torch_distributed_backend_str",),
    "stage": ("get_torch_distributed_backend_str",),
}
# What errors of SGLang speak of, and the members that it is by.
_SPOKEN_OF = (("allocator", MEMBERS["allocator"]), ("attention backend", _ATTENTION), ("pool", _POOLS))
_POOL = "token_to_kv_pool"
_PARTS = ("pool", "allocator", "attention")


def cause(found: Birth, served: Served) -> str:
    """What computed the first wrong number, and which member of the platform it is there by."""
    by = served.classes.get(found.kind, "") if found.kind in _PARTS else found.by
    if found.kind == "unseen":
        return f"what stands in the place of {', '.join(found.others)}, as by a hook of the plugin"
    own = by.partition(".")[0] in ("sglang", "torch", "")
    members = [name for name in MEMBERS.get(found.kind, ()) if place(name)]
    if found.kind == "pool":
        members = members[:1]  # the newest that there is goes before the others
    given = " or ".join(f"{name}()" for name in members)
    if found.kind == "reduction":
        engine = f"what reduces for the group{f', by {given}' if given else ''}"
        return f"{engine}: every rank's summand is right, and their sum is not"
    if found.kind == "stage":
        return f"what sends tensors from stage to stage{f', by {given}' if given else ''}: these are not what was sent"
    if found.kind == "attention" and not any(_POOL in seen.module for seen in served.passes[found.number].seen):
        by += f", or {served.classes['pool']}, of which nothing was seen as it is laid out in its own way"
        given = f"{given}, or get_kv_pool_cls()" if given else ""
    if not own:
        return f"{by}, which SGLang has by {given or 'a hook of the plugin'}"
    torch = f"torch's own operators, which {by or 'SGLang'} runs on the device"
    if found.kind in ("residual", "norm"):
        torch += ", or what a hook does between the modules before it and it"
    return f"{torch}, or what {given} gives" if members else torch


def line(found: Birth, served: Served) -> str:
    """The vendor's line of what computed the first wrong number, or of the member that it is there by."""
    own = served.places.get(found.kind, "") if found.kind in _PARTS else found.where
    return own or next(filter(None, map(place, MEMBERS.get(found.kind, ()))), "")


def place(member: str) -> str:
    """``file:line`` of a member of the platform where the vendor defines it; empty where it is SGLang's."""
    return expect.place_of(_platform(), member)


@dataclass
class Asked:
    """What the core asked the platform for, one after another, and what it was answered."""

    answers: list[tuple[str, Any]] = field(default_factory=list)

    def call(
        self, kind: str, name: str, detail: str, function: Callable[..., Any], args: Any, kwargs: Any, skip: int = 0
    ) -> Any:
        """Call a member, and keep what it answers."""
        value = function(*args, **kwargs)
        self.answers.append((name, value))
        return value

    def tell(self, error: Exception, call: str) -> NoReturn:
        """Fail with what serving raised."""
        expect.raised(error, call=call, cause=self.cause(error))

    def cause(self, error: BaseException) -> str:
        """Which answer an error has to do with: one that it speaks of, or that raised it; empty where none is seen."""
        raising, text = set(_raising(error)), str(error)
        words = set(re.split(r"[^\w.-]+", text))
        last = self.answers[::-1]
        for name, value in last:
            if isinstance(value, type) and (value in raising or value.__name__ in text):
                return f"SGLang uses the class {value.__name__}, which platform.{name}() gave"
            if isinstance(value, str) and value in words:
                return f"SGLang goes by {value!r}, which platform.{name}() answered"
        for name, value in last:
            if isinstance(value, type) and any(base.__name__ in text for base in value.__mro__[:-1]):
                return f"SGLang uses the class {value.__name__}, which platform.{name}() gave"
        for what, members in _SPOKEN_OF:
            theirs = [f"{name}()" for name in members if place(name)]
            if what in text and theirs:
                return f"the {what} is the platform's, by {' or '.join(theirs)}"
        told = [
            f"platform.{name}() gave {expect.show(value, 60)}"
            for name, value in self.answers
            if isinstance(value, type) or name.endswith("_cls")
        ]
        return f"of what SGLang was given: {'; '.join(dict.fromkeys(told))}" if told else ""


@contextlib.contextmanager
def asking() -> Iterator[Asked]:
    """Keep what the platform answers, for a while; nothing is kept of one whose class cannot be watched."""
    asked = Asked()
    platform = _platform()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(TypeError):
            stack.enter_context(watched(platform, _asked_for(platform), asked))  # type: ignore[arg-type]
        yield asked


@contextlib.contextmanager
def because(cause: str) -> Iterator[None]:
    """Say of what fails meanwhile that this is the cause."""
    try:
        yield
    except expect.Violation as violation:
        expect.fail(**{**violation.finding, "cause": cause})


def _asked_for(platform: Any) -> Sequence[str]:
    """The members whose answers SGLang builds on, which are the vendor's."""
    names = [name for name in dir(type(platform)) if name.startswith("get_")]
    return [name for name in names if expect.place_of(platform, name)]


def _raising(error: BaseException) -> Iterator[type]:
    """The classes whose methods an error came through."""
    trace = error.__traceback__
    while trace is not None:
        yield from type(trace.tb_frame.f_locals.get("self")).__mro__[:-1]
        trace = trace.tb_next


def _platform() -> Any:
    from sglang.srt.platforms import current_platform

    return current_platform
