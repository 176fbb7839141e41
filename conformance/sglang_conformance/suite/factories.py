"""FAC: the names and classes that the platform hands out, for SGLang to use in place of its own.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from ..hosts import serving
from . import expect
from .aids import compiling, construction, pools
from .aids.offered import must_offer
from .aids.resolution import overrides
from .aids.server_args import table
from .aids.uncovered import answer_of, can_be_made, class_of, maker_of
from .capabilities import algorithms
from .declare import in_probe, requirement


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
    except Exception as error:  # a package that it wants may lack, or be another than it wants
        text = f"whether the attention backend {answer.value!r} is registered cannot be seen on this host: {error}"
        raise serving.lacking(text) from error
    expect.that(
        answer.value in ATTENTION_BACKENDS,
        expected=f"an attention backend that is registered: {', '.join(sorted(ATTENTION_BACKENDS))}",
        seen=repr(answer.value),
        answer=answer,
        cause="misspelt, or the plugin registers its own backend too late: do so in a hook plugin",
    )


@requirement("FAC-028")
@in_probe
def test_default_attention_backend_needs_no_triton_where_there_is_none(platform: Any) -> None:
    if platform.capabilities.supports_triton:
        return
    answer = expect.ask(platform, "get_default_attention_backend")
    expect.that(
        answer.value != "triton",
        expected="an attention backend without Triton kernels: capabilities.supports_triton is False",
        seen=repr(answer.value),
        answer=answer,
    )


@requirement("FAC-003")
@in_probe
def test_graph_runner_is_made_from_a_model_runner(platform: Any, contract: Contract) -> None:
    answer = construction.graph_runner(platform, contract)
    can_be_made(answer, "model_runner", cause="SGLang makes the runner with its model runner, and nothing else")


@requirement("FAC-004")
@in_probe
def test_graph_runner_takes_what_speculative_decoding_adds(platform: Any, contract: Contract) -> None:
    keywords = dict.fromkeys(("attn_backend", "speculative_num_steps", "speculative_num_draft_tokens"))
    can_be_made(
        construction.graph_runner(platform, contract),
        "model_runner",
        **keywords,
        cause="adaptive speculative decoding makes one runner for each number of steps, with these keywords",
    )


@requirement("FAC-020")
@in_probe
def test_graph_runner_can_be_asked_whether_it_can_run(platform: Any, contract: Contract) -> None:
    construction.runner_must_offer(platform, contract, "can_run")


@requirement("FAC-021")
@in_probe
def test_graph_runner_can_be_asked_whether_it_can_run_the_graph(platform: Any, contract: Contract) -> None:
    construction.runner_must_offer(platform, contract, "can_run_graph")


@requirement("FAC-022")
@in_probe
def test_graph_runner_says_which_batches_it_has_captured(platform: Any, contract: Contract) -> None:
    construction.runner_must_offer(platform, contract, "capture_bs")


@requirement("FAC-005")
@in_probe
def test_full_graph_backend_takes_a_runner_and_the_memory_saver(platform: Any) -> None:
    answer = maker_of(platform, "get_full_graph_backend_cls", or_none=True)
    can_be_made(answer, "cuda_graph_runner", enable_memory_saver=False, cause="this is how SGLang makes the backend")


@requirement("FAC-023")
@in_probe
def test_full_graph_backend_captures_and_replays(platform: Any) -> None:
    answer = maker_of(platform, "get_full_graph_backend_cls", or_none=True)
    must_offer(answer, *construction.CAPTURES, cause="SGLang's runners capture and replay through them")


@requirement("FAC-006")
@in_probe
def test_piecewise_backend_takes_nine_arguments(platform: Any, contract: Contract) -> None:
    member = "get_piecewise_backend_cls"
    if contract.has("support_piecewise_cuda_graph") and not overrides(platform, member):
        raise expect.Declined(f"{member} is SGLang's own default, which refuses")
    answer = maker_of(platform, member, or_none=True)
    can_be_made(answer, *construction.PIECEWISE, cause="SGLang makes it with nine arguments")


@requirement("FAC-007")
@in_probe
def test_each_kind_of_kv_pool_gets_a_class_or_none(platform: Any, contract: Contract) -> None:
    pools.check_kinds(platform, contract.kv_pool_kinds)


@requirement("FAC-008")
@in_probe
def test_each_method_for_a_kv_pool_gives_a_class(platform: Any, contract: Contract) -> None:
    pools.check_methods(platform, contract)


@requirement("FAC-009")
@in_probe
def test_paged_allocator_takes_what_sglang_passes(platform: Any, contract: Contract) -> None:
    first, *others = construction.ALLOCATOR
    answer = construction.allocator(platform, contract)
    can_be_made(answer, first, **dict.fromkeys(others), cause="so SGLang makes it for the KV cache")


@requirement("FAC-019")
@in_probe
def test_paged_allocator_takes_it_by_position(platform: Any, contract: Contract) -> None:
    answer = construction.allocator(platform, contract)
    can_be_made(answer, *construction.ALLOCATOR, cause="so SGLang makes it for sliding windows")


@requirement("FAC-024")
@in_probe
def test_paged_allocator_allocates_and_frees(platform: Any, contract: Contract) -> None:
    answer = construction.allocator(platform, contract)
    must_offer(answer, *construction.ALLOCATIONS, cause="SGLang calls them for every request")


@requirement("FAC-010")
@in_probe
def test_compile_backend_is_one_that_torch_can_be_given(platform: Any) -> None:
    compiling.check_usable(expect.ask(platform, "get_compile_backend", None))


@requirement("FAC-017")
@in_probe
def test_compile_backend_is_given_for_every_mode(platform: Any) -> None:
    for mode in compiling.MODES:
        compiling.check_usable(expect.ask(platform, "get_compile_backend", mode))


@requirement("FAC-018")
@in_probe
def test_named_compile_backend_is_known_to_torch(platform: Any) -> None:
    compiling.check_known(platform, expect.ask(platform, "get_compile_backend", None))


@requirement("FAC-011")
@in_probe
def test_each_quantization_gets_a_config_none_or_a_refusal(platform: Any, contract: Contract) -> None:
    for name in table(contract.release).quantizations:
        try:
            class_of(platform, "get_quantization_config", name, or_none=True)
        except expect.Violation as violation:
            if not isinstance(violation.__context__, construction.REFUSALS):
                raise


@requirement("FAC-025")
@in_probe
def test_quantization_config_can_be_read_and_used(platform: Any, contract: Contract) -> None:
    for name in table(contract.release).quantizations:
        try:
            answer = class_of(platform, "get_quantization_config", name, or_none=True)
        except expect.Violation:
            continue
        cause = "SGLang makes the config, and asks it for each layer's method"
        must_offer(answer, "from_config", "get_quant_method", cause=cause)


@requirement("FAC-026")
@in_probe
def test_listed_quantization_is_not_refused(platform: Any) -> None:
    listed = platform.supported_quantization
    if not listed:
        raise expect.Declined("supported_quantization is empty")
    for name in listed:
        answer_of(platform, "get_quantization_config", name)


@requirement("FAC-012")
@in_probe
@given(algorithm=algorithms)
def test_speculative_worker_is_made_as_sglangs_own(platform: Any, algorithm: str) -> None:
    answer = maker_of(platform, "get_speculative_worker_cls", algorithm=algorithm, or_none=True)
    can_be_made(answer, **dict.fromkeys(construction.WORKER), cause="the scheduler makes the draft worker so")


@requirement("FAC-013")
@in_probe
@given(algorithm=algorithms, phase=st.sampled_from(construction.PHASES))
def test_speculative_graph_runner_can_be_called_or_is_none(platform: Any, algorithm: str, phase: str) -> None:
    maker_of(platform, "get_speculative_graph_runner_cls", algorithm=algorithm, phase=phase, or_none=True)


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
    if answer.value is not None:
        can_be_made(answer, **dict.fromkeys(construction.CACHE_LOCATIONS), cause="so SGLang calls it in each step")


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


@requirement("FAC-027")
@in_probe
def test_dispatch_key_is_not_another_devices(platform: Any) -> None:
    answer = expect.ask(platform, "get_dispatch_key_name")
    served = construction.DISPATCH.get(answer.value, platform.device_type)
    expect.that(
        served == platform.device_type,
        expected=f"'native', or a key of the vendor's: the device type is {platform.device_type!r}",
        seen=f"{answer.value!r}, under which SGLang runs its kernels for {served!r}",
        answer=answer,
    )


@requirement("FAC-016")
@in_probe
def test_allocators_class_is_the_same_again(platform: Any) -> None:
    member = "get_paged_allocator_cls"
    first, again = answer_of(platform, member), answer_of(platform, member)
    if first is None or again is None or not isinstance(first.value, type):
        return
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
