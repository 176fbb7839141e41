"""Seeing what a model's modules give out while it serves, on one rank: the values that the oracle has points for.

Every module of SGLang's model is watched by torch's own forward hooks, every reduction where the layer looks it up, and
the pool of keys and values once a layer has written to it. What a graph replays calls no module: there only the logits
are seen.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..blame import is_vendor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Beside = Callable[[str, Any, Any], Iterable[tuple[str, str, Any, Sequence["Token"]]]]

REDUCTIONS = (
    "tensor_model_parallel_all_reduce",
    "moe_tensor_model_parallel_all_reduce",
    "moe_expert_parallel_all_reduce",
)
_LAYERS = "sglang.srt.layers."
_MODELS = "sglang.srt.models."


@dataclass(frozen=True)
class Token:
    """A row of a pass: the token of a request at a position."""

    request: str
    position: int


@dataclass(frozen=True)
class Seen:
    """A value, ``[row, column]``: the module that gave it, which of its outputs it is, and the rows' tokens.

    ``reduced``: whether the ranks' summands had been reduced; None where nothing was. ``by`` is the class or function
    that computed it, ``where`` the line of it, where that is a vendor's.
    """

    module: str
    output: str
    value: Array
    rows: tuple[Token, ...]
    reduced: bool | None = None
    by: str = ""
    where: str = ""


@dataclass(frozen=True)
class Pass:
    """One forward pass: what was seen in it, in order, and the slots that its requests had for their tokens."""

    number: int
    mode: str
    rows: tuple[Token, ...]
    seen: tuple[Seen, ...]
    slots: Mapping[str, tuple[int, ...]]


@dataclass
class Watch:
    """Watches one rank's model; ``passes`` are those that have ended.

    ``beside`` is asked when a module has ended, before what it gave is taken down: what else is then to be seen, as
    the module's and the output's names, a tensor and its rows.
    """

    model: Any
    beside: Beside = lambda name, module, given: ()
    passes: list[Pass] = field(default_factory=list)
    _rows: tuple[Token, ...] = ()
    _last: tuple[Token, ...] = ()
    _seen: list[Seen] = field(default_factory=list)
    _stack: list[str] = field(default_factory=list)
    _summed: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def on(self) -> Iterator[Watch]:
        """Watch, until the end."""
        handles = []
        for module, names in _named(self.model).items():
            handles.append(module.register_forward_pre_hook(self._begins(names)))
            handles.append(module.register_forward_hook(self._ends))
        try:
            with _reductions(self._reducing, self._reduced):
                yield self
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def one(self, mode: str, rows: Sequence[Token], last: Sequence[Token], slots: Mapping[str, Any]) -> Iterator[None]:
        """One pass over these rows; ``last`` are those whose logits are wanted, ``slots`` each request's.

        What was seen is kept even where the pass fails.
        """
        self._rows, self._last, self._seen = tuple(rows), tuple(last), []
        try:
            yield
        finally:
            kept = {name: tuple(int(slot) for slot in own) for name, own in slots.items()}
            self.passes.append(Pass(len(self.passes), mode, self._rows, tuple(self._seen), kept))
            self._stack.clear()

    def _begins(self, names: Sequence[str]) -> Callable[..., None]:
        def begins(module: Any, given: Any) -> None:
            holder = self._stack[-1] if self._stack else ""
            self._stack.append(next((name for name in names if name.rpartition(".")[0] == holder), names[0]))

        return begins

    def _ends(self, module: Any, given: Any, result: Any) -> None:
        name = self._stack.pop()
        for other, output, value, rows in self.beside(name, module, given):
            self._note(other, output, value, tuple(rows))
        reduced = True if name in self._summed else None
        self._summed.discard(name)
        for output, value in _outputs(result):
            self._note(name, output, value, None, reduced, module)

    def _reducing(self, summand: Any) -> None:
        """A summand is about to be reduced, in the innermost module that has begun."""
        if self._stack:
            name = self._stack[-1]
            self._summed.add(name)
            self._note(name, "", summand, None, False)

    def _reduced(self, sum_of_all: Any) -> None:
        """It has been reduced to this: what the module then makes of it is the module's."""
        if self._stack:
            self._note(self._stack[-1], "", sum_of_all, None, True)

    def _note(
        self,
        module: str,
        output: str,
        value: Any,
        rows: tuple[Token, ...] | None,
        reduced: bool | None = None,
        by: Any = None,
    ) -> None:
        """Take down a tensor that has a row for each token, or for each whose logits are wanted; leave others out."""
        import torch

        if not isinstance(value, torch.Tensor) or value.dim() < 1:
            return
        if rows is None:
            rows = next((each for each in (self._rows, self._last) if len(each) == value.shape[0]), None)
        if rows is not None and len(rows) == value.shape[0]:
            own = plain(value).reshape(len(rows), -1)
            self._seen.append(Seen(module, output, own, rows, reduced, *_computing(by)))


def _named(model: Any) -> dict[Any, list[str]]:
    """Every module below the model, and all its names: layers may share one."""
    found: dict[Any, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if name and type(module).__name__ != "PPMissingLayer":
            found.setdefault(module, []).append(name)
    return found


_is_theirs = functools.lru_cache(maxsize=256)(is_vendor)


def _computing(module: Any) -> tuple[str, str]:
    """What computes a module's values, and its line where that is a vendor's: the class, or what runs in its place.

    SGLang's operators keep what they run on this platform as ``_forward_method`` (0.5.11
    srt/layers/utils/multi_platform.py, 0.5.23 kernels/fused_op.py).
    """
    if module is None:
        return "", ""
    kind = type(module)
    function = inspect.unwrap(getattr(module, "_forward_method", None) or kind.forward)
    code = getattr(function, "__code__", None)
    if code is None or not _is_theirs(code.co_filename):
        return f"{kind.__module__}.{kind.__qualname__}", ""
    return f"{function.__module__}.{function.__qualname__}", f"{code.co_filename}:{code.co_firstlineno}"


def plain(tensor: Any) -> Array:
    """What a tensor on any device holds, as float64 on the host, in memory of its own."""
    import torch

    on_host = tensor.cpu().detach()  # in this order the device has one thing to do
    array: Array = (on_host.float() if on_host.dtype == torch.bfloat16 else on_host).numpy().astype("float64")
    return array


def _outputs(result: Any) -> Iterator[tuple[str, Any]]:
    """What a module gave out, by the names that the oracle has for it."""
    for name, output in (("topk_ids", "ids"), ("topk_weights", "weights"), ("next_token_logits", "")):
        if hasattr(result, name):
            yield output, getattr(result, name)
    if not isinstance(result, tuple) or hasattr(result, "_fields"):
        yield "", result
    else:
        for number, value in enumerate(result):
            yield str(number or ""), value


@contextlib.contextmanager
def _reductions(before: Callable[[Any], None], after: Callable[[Any], None]) -> Iterator[None]:
    """Hear of every reduction of SGLang's layers and models: each module looks the function up in itself."""
    replaced: list[tuple[Any, str, Any]] = []
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "") or ""
        if not name.startswith((_LAYERS, _MODELS)):
            continue
        for function in REDUCTIONS:
            own = vars(module).get(function)
            if own is not None:
                replaced.append((module, function, own))
                setattr(module, function, _heard(own, before, after))
    try:
        yield
    finally:
        for module, function, own in replaced:
            setattr(module, function, own)


def _heard(
    function: Callable[..., Any], before: Callable[[Any], None], after: Callable[[Any], None]
) -> Callable[..., Any]:
    def reduce(value: Any, *args: Any, **kwargs: Any) -> Any:
        before(value)
        result = function(value, *args, **kwargs)
        after(result)
        return result

    return reduce
