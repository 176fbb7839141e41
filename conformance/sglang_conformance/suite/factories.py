"""FAC: the names and classes that the platform hands out, for SGLang to use in place of its own.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from . import expect
from .aids.resolution import overrides
from .aids.server_args import table
from .aids.uncovered import answer_of, can_be_made, class_of
from .capabilities import algorithms
from .declare import in_probe, requirement

# The pool that each kind's class must extend (SGLang 0.5.23, srt/mem_cache/kv_cache_configurator.py:165).
POOLS: Mapping[str, str] = {"mha": "MHATokenToKVPool", "mla": "MLATokenToKVPool", "dsa": "DSATokenToKVPool"}

# The pools' methods of their own, up to 0.5.21: the first is needed by ordinary models, the others by some families.
POOL_METHODS = ("get_mha_kv_pool_cls", "get_mla_kv_pool_cls", "get_nsa_kv_pool_cls", "get_dsa_kv_pool_cls")

# None is what SGLang passes most often; the other is the contract's own example of a mode.
COMPILE_MODES = (None, "npugraph_ex")
PHASES = ("draft_decode", "draft_extend")

# "raise an error if not supported" (SGLang 0.5.23, srt/platforms/interface.py): errors that speak of what was asked.
REFUSALS = (ValueError, NotImplementedError, RuntimeError)

# What SGLang makes a piecewise backend from, by position (0.5.11 and 0.5.23, srt/compilation/backend.py).
PIECEWISE = (
    "graph",
    "compile_config",
    "inductor_config",
    "graph_pool",
    "piecewise_compile_index",
    "total_piecewise_compiles",
    "sym_shape_indices",
    "compiled_graph_for_general_shape",
    "sglang_backend",
)

# What it makes an allocator from: by name for the KV cache, by position for sliding windows (0.5.23,
# srt/mem_cache/kv_cache_configurator.py:2926 and srt/mem_cache/allocator/swa.py:85).
ALLOCATOR = ("size", "page_size", "dtype", "device", "kvcache", "need_sort")

CLASSES = (
    "get_graph_runner_cls",
    "get_full_graph_backend_cls",
    "get_piecewise_backend_cls",
    "get_paged_allocator_cls",
    *POOL_METHODS,
)


@requirement("FAC-001")
@in_probe
def test_default_attention_backend_is_a_name(platform: Any) -> None:
    _expect_name(expect.ask(platform, "get_default_attention_backend"))


@requirement("FAC-002")
@in_probe
def test_default_attention_backend_is_a_registered_one(platform: Any, contract: Contract) -> None:
    answer = expect.ask(platform, "get_default_attention_backend")
    if answer.value in table(contract.release).attention_backends:
        return
    try:
        from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS
    except ImportError as error:
        text = f"whether the attention backend {answer.value!r} is registered cannot be seen on this host: {error}"
        raise expect.NotCovered(text) from error
    expect.that(
        answer.value in ATTENTION_BACKENDS,
        expected=f"an attention backend that is registered: {', '.join(sorted(ATTENTION_BACKENDS))}",
        seen=repr(answer.value),
        answer=answer,
        cause="misspelt, or the plugin registers its own backend too late: do so in a hook plugin",
    )


@requirement("FAC-003")
@in_probe
def test_graph_runner_is_made_from_a_model_runner(platform: Any, contract: Contract) -> None:
    answer = _graph_runner(platform, contract)
    can_be_made(answer, "model_runner", cause="SGLang makes the runner with its model runner, and nothing else")


@requirement("FAC-004")
@in_probe
def test_graph_runner_takes_what_speculative_decoding_adds(platform: Any, contract: Contract) -> None:
    keywords = dict.fromkeys(("attn_backend", "speculative_num_steps", "speculative_num_draft_tokens"))
    can_be_made(
        _graph_runner(platform, contract),
        "model_runner",
        **keywords,
        cause="adaptive speculative decoding makes one runner for each number of steps, with these keywords",
    )


@requirement("FAC-005")
@in_probe
def test_full_graph_backend_takes_a_runner_and_the_memory_saver(platform: Any) -> None:
    answer = class_of(platform, "get_full_graph_backend_cls", or_none=True)
    can_be_made(answer, "cuda_graph_runner", enable_memory_saver=False, cause="this is how SGLang makes the backend")


@requirement("FAC-006")
@in_probe
def test_piecewise_backend_is_a_class(platform: Any, contract: Contract) -> None:
    member = "get_piecewise_backend_cls"
    if contract.has("support_piecewise_cuda_graph") and not overrides(platform, member):
        raise expect.Declined(f"{member} is SGLang's own default, which refuses")
    can_be_made(class_of(platform, member, or_none=True), *PIECEWISE, cause="SGLang makes it with nine arguments")


@requirement("FAC-007")
@in_probe
def test_each_kind_of_kv_pool_gets_a_class_or_none(platform: Any, contract: Contract) -> None:
    for kind in contract.kv_pool_kinds:
        answer = class_of(platform, "get_kv_pool_cls", kind=kind, or_none=True)
        base = _in_tree_pool(kind)
        if answer is None or base is None:
            continue
        expect.that(
            issubclass(answer.value, base),
            expected=f"None, or a subclass of {base.__name__}",
            seen=f"{answer.value.__name__}, whose bases are {[c.__name__ for c in answer.value.__mro__[1:]]}",
            answer=answer,
        )


@requirement("FAC-008")
@in_probe
def test_each_method_for_a_kv_pool_gives_a_class(platform: Any, contract: Contract) -> None:
    for member in POOL_METHODS:
        if not contract.has(member):
            continue
        if overrides(platform, member):
            class_of(platform, member)
            continue
        expect.that(
            member != POOL_METHODS[0],
            expected="a class: SGLang asks this for every model with ordinary attention",
            seen="SGLang's own default, which raises NotImplementedError",
            call=expect.spell(member),
        )


@requirement("FAC-009")
@in_probe
def test_paged_allocator_is_a_class_that_takes_what_sglang_passes(platform: Any, contract: Contract) -> None:
    answer = class_of(platform, "get_paged_allocator_cls", or_none=not contract.has(POOL_METHODS[0]))
    can_be_made(answer, ALLOCATOR[0], **dict.fromkeys(ALLOCATOR[1:]), cause="so SGLang makes it for the KV cache")
    if not contract.has(POOL_METHODS[0]):
        can_be_made(answer, *ALLOCATOR, cause="so SGLang makes it for sliding windows")


@requirement("FAC-010")
@in_probe
def test_compile_backend_is_one_that_torch_can_be_given(platform: Any) -> None:
    for mode in COMPILE_MODES:
        answer = expect.ask(platform, "get_compile_backend", mode)
        expect.that(
            (isinstance(answer.value, str) and answer.value) or callable(answer.value),
            expected="the name of a torch.compile backend, or the backend itself; 'eager' where there is none",
            seen=expect.show(answer.value),
            answer=answer,
        )


@requirement("FAC-011")
@in_probe
def test_each_quantization_gets_a_config_none_or_a_refusal(platform: Any, contract: Contract) -> None:
    for name in table(contract.release).quantizations:
        try:
            class_of(platform, "get_quantization_config", name, or_none=True)
        except expect.Violation as violation:
            if not isinstance(violation.__context__, REFUSALS):
                raise


@requirement("FAC-012")
@in_probe
@given(algorithm=algorithms)
def test_speculative_worker_is_a_class_or_none(platform: Any, algorithm: str) -> None:
    class_of(platform, "get_speculative_worker_cls", algorithm=algorithm, or_none=True)


@requirement("FAC-013")
@in_probe
@given(algorithm=algorithms, phase=st.sampled_from(PHASES))
def test_speculative_graph_runner_is_a_class_or_none(platform: Any, algorithm: str, phase: str) -> None:
    class_of(platform, "get_speculative_graph_runner_cls", algorithm=algorithm, phase=phase, or_none=True)


@requirement("FAC-014")
@in_probe
def test_speculative_cache_locations_come_from_a_function_or_none(platform: Any) -> None:
    answer = answer_of(platform, "get_speculative_cache_locs_fn")
    if answer is None:
        return
    expect.that(
        answer.value is None or (callable(answer.value) and not isinstance(answer.value, type)),
        expected="a function, or None for SGLang's own",
        seen=f"{expect.show(answer.value)} ({type(answer.value).__name__})",
        answer=answer,
    )


@requirement("FAC-015")
@in_probe
def test_dispatch_key_can_end_a_methods_name(platform: Any) -> None:
    answer = expect.ask(platform, "get_dispatch_key_name")
    _expect_name(answer)
    expect.that(
        f"forward_{answer.value}".isidentifier(),
        expected="letters, digits and underscores: SGLang looks for the method forward_<key>",
        seen=repr(answer.value),
        answer=answer,
    )
    again = expect.ask(platform, "get_dispatch_key_name")
    expect.equal(again, answer.value, cause="operators would be bound to the one key or to the other")


@requirement("FAC-016")
@in_probe
def test_factories_give_the_same_class_again(platform: Any, contract: Contract) -> None:
    for member in CLASSES:
        if not (contract.has(member) and overrides(platform, member)):
            continue
        first, again = answer_of(platform, member), answer_of(platform, member)
        if first is None or again is None or not isinstance(first.value, type):
            continue
        expect.that(
            again.value is first.value,
            expected=f"{expect.show(first.value)}, the very object of the first call",
            seen=expect.show(again.value),
            answer=again,
            cause="a class made anew in each call: define it at the level of a module",
        )


def _expect_name(answer: expect.Answer) -> None:
    expect.that(
        isinstance(answer.value, str) and answer.value.strip() == answer.value != "",
        expected="a name: a text, neither empty nor with blanks around it",
        seen=f"{expect.show(answer.value)} ({type(answer.value).__name__})",
        answer=answer,
    )


def _graph_runner(platform: Any, contract: Contract) -> expect.Answer | None:
    member = "get_graph_runner_cls"
    if contract.has("support_cuda_graph") and not overrides(platform, member):
        raise expect.Declined(f"{member} is SGLang's own default, which refuses")
    return class_of(platform, member, or_none=not contract.has("support_cuda_graph"))


def _in_tree_pool(kind: str) -> type | None:
    """SGLang's own pool of a kind; None where this host does not have it, or cannot import it."""
    try:
        from sglang.srt.mem_cache import memory_pool
    except ImportError:
        return None
    found = getattr(memory_pool, POOLS.get(kind, ""), None)
    return found if isinstance(found, type) else None
