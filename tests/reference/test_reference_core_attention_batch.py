"""Batches of the reference's core, by release: modes, fields, positions, what a stage hands on, the context."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

INFO = "sglang.srt.model_executor.forward_batch_info"
RUNNER = SimpleNamespace(
    device="cpu",
    server_args=SimpleNamespace(attention_backend="torch_native"),
    prefill_attention_backend_str="torch_native",
    req_to_token_pool="requests",
    token_to_kv_pool="tokens",
    attn_backend="attention",
)


def scheduled(info: Any, mode: str, lengths: list[int], **more: Any) -> Any:
    return SimpleNamespace(
        forward_mode=info.ForwardMode[mode],
        input_ids=torch.arange(sum(lengths)),
        req_pool_indices=torch.tensor([1, 2]),
        seq_lens=torch.tensor(lengths),
        seq_lens_cpu=torch.tensor(lengths),
        seq_lens_sum=None,
        out_cache_loc=torch.arange(1, 1 + sum(lengths)),
        reqs=[SimpleNamespace(rid="a"), SimpleNamespace(rid="b")],
        **more,
    )


def made(info: Any, batch: Any, release: str) -> Any:
    more = {} if release in ("0.5.11", "0.5.13") else {"return_hidden_states_before_norm": False}
    return info.ForwardBatch.init_new(batch, RUNNER, **more)


@pytest.mark.parametrize(("release", "has"), [("0.5.13", True), ("0.5.14", False)])
def test_modes_are_the_releases(install: Any, module: Callable[[str], Any], release: str, has: bool) -> None:
    install(release)
    modes = module(INFO).ForwardMode
    assert ("DRAFT_EXTEND" in modes.__members__) is has
    assert [mode.name for mode in modes if mode.is_extend()] == [
        *("EXTEND", "MIXED", "TARGET_VERIFY"),
        *(["DRAFT_EXTEND"] if has else []),
        *("SPLIT_PREFILL", "DLLM_EXTEND"),
    ]
    assert [mode.name for mode in modes if mode.is_cuda_graph()] == ["DECODE", "IDLE", "TARGET_VERIFY", "DLLM_EXTEND"]
    assert modes.DRAFT_EXTEND_V2.is_extend(include_draft_extend_v2=True)
    assert list(modes) == [*range(1, len(modes) + 1)]
    assert modes.__module__ == INFO
    assert pickle.loads(pickle.dumps(modes.MIXED)) is modes.MIXED


@pytest.mark.parametrize("release", ["0.5.11", "0.5.13", "0.5.16", "0.5.19", "0.5.23"])
def test_a_batch_that_extends_knows_its_positions(install: Any, module: Callable[[str], Any], release: str) -> None:
    install(release)
    info = module(INFO)
    lists = ("extend_seq_lens", "extend_prefix_lens") if release == "0.5.11" else ("extend_lens", "prefix_lens")
    given = scheduled(info, "EXTEND", [3, 9], extend_num_tokens=5, **dict(zip(lists, ([3, 2], [0, 7]), strict=True)))
    batch = made(info, given, release)
    assert batch.positions.tolist() == [0, 1, 2, 7, 8]
    assert batch.positions.dtype == torch.int64
    assert batch.extend_start_loc.tolist() == [0, 3]
    assert (batch.extend_seq_lens.tolist(), batch.extend_prefix_lens.tolist()) == ([3, 2], [0, 7])
    assert (batch.extend_seq_lens_cpu, batch.extend_prefix_lens_cpu) == ([3, 2], [0, 7])
    assert (batch.seq_lens_sum, batch.batch_size, batch.rids) == (12, 2, ["a", "b"])
    assert batch.out_cache_loc is given.out_cache_loc


@pytest.mark.parametrize("release", ["0.5.11", "0.5.13", "0.5.23"])
def test_a_batch_that_decodes_is_at_its_last_positions(
    install: Any, module: Callable[[str], Any], release: str
) -> None:
    install(release)
    info = module(INFO)
    batch = made(info, scheduled(info, "DECODE", [1, 9]), release)
    assert batch.positions.tolist() == [0, 8]
    assert batch.extend_seq_lens is None
    if release == "0.5.11":
        assert (batch.attn_backend, batch.token_to_kv_pool) == ("attention", "tokens")
    else:
        assert not hasattr(batch, "attn_backend")
    assert hasattr(batch, "forward_metadata_ready") is (release != "0.5.11")
    assert hasattr(batch, "global_num_token_non_padded_cpu") is (release == "0.5.23")
    again = dataclasses.replace(batch, batch_size=1)
    assert (again.batch_size, again.rids, copy.copy(batch).rids) == (1, batch.rids, batch.rids)
    with pytest.raises(AttributeError) as refused:
        batch.something_of_sglangs  # noqa: B018
    assert type(refused.value).__name__ == "NotCovered"


def test_fields_of_features_that_are_not_in_use_hold_nothing(install: Any, module: Callable[[str], Any]) -> None:
    install("0.5.23")
    info = module(INFO)
    batch = made(info, scheduled(info, "DECODE", [1, 9]), "0.5.23")
    assert (batch.attn_cp_metadata, batch.out_cache_loc_is_physical, batch.mrope_positions) == (None, False, None)
    batch.attn_cp_metadata = 3
    assert made(info, scheduled(info, "DECODE", [1, 9]), "0.5.23").attn_cp_metadata is None


def test_what_a_stage_hands_on_is_sliced_together(install: Any, module: Callable[[str], Any]) -> None:
    install()
    handed = module(INFO).PPProxyTensors({"hidden_states": torch.arange(4), "residual": torch.arange(4, 8)})
    assert {name: tensor.tolist() for name, tensor in handed[1:3].tensors.items()} == {
        "hidden_states": [1, 2],
        "residual": [5, 6],
    }
    assert (len(handed), handed["residual"][0].item()) == (2, 4)


def test_a_context_holds_for_a_pass_and_within_another(install: Any, module: Callable[[str], Any]) -> None:
    install("0.5.13")
    context = module("sglang.srt.model_executor.forward_context")
    outer, inner = (SimpleNamespace(token_to_kv_pool=name, req_to_token_pool=name) for name in ("outer", "inner"))
    with context.forward_context(context.ForwardContext(outer)):
        with context.forward_context(context.ForwardContext(inner)):
            assert context.get_token_to_kv_pool() == "inner"
        assert context.get_req_to_token_pool() == "outer"
    assert not context.has_forward_context()
    failing = context.forward_context(context.ForwardContext(inner))
    failing.__enter__()
    assert failing.__exit__(KeyError, KeyError(), None) is False
    with pytest.raises(AssertionError, match="no forward pass"):
        context.get_attn_backend()


def test_there_is_no_context_before_it_came(install: Any, module: Callable[[str], Any]) -> None:
    install("0.5.12")
    with pytest.raises(ModuleNotFoundError):
        module("sglang.srt.model_executor.forward_context")
