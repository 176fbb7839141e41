"""The reference's attention in torch's own operators, by release: values, and what it must not look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sglang_reference import NotCovered

RELEASES = ["0.5.11", "0.5.13", "0.5.23"]
SLOTS, WIDTH = 60, 24


class Stand:
    """An attention layer over pools that hold NaN wherever nothing was written."""

    def __init__(self, module: Callable[[str], Any], release: str, *, shape: str = "grouped", **layer: Any) -> None:
        self.srt: Callable[[str], Any] = lambda name: module(f"sglang.srt.{name}")
        self.in_batch = release in ("0.5.11", "0.5.12")
        self.device = "cpu"
        pools = self.srt("mem_cache.memory_pool")
        common = {"size": SLOTS, "page_size": 1, "dtype": torch.float32, "layer_num": 1, "device": "cpu"}
        sizes: dict[str, Any] = {"num_heads": 4, "head_dim": 6, "num_kv_heads": 2}
        if shape == "latent":
            sizes = {"num_heads": 4, "head_dim": 8, "num_kv_heads": 1, "v_head_dim": 5}
            self.token_to_kv_pool = pools.MLATokenToKVPool(
                **common, enable_memory_saver=False, kv_lora_rank=5, qk_rope_head_dim=3, start_layer=0
            )
            buffers = self.token_to_kv_pool.kv_buffer
        else:
            self.token_to_kv_pool = pools.MHATokenToKVPool(
                **common, enable_memory_saver=False, head_num=2, head_dim=6, start_layer=0
            )
            buffers = [*self.token_to_kv_pool.k_buffer, *self.token_to_kv_pool.v_buffer]
        for buffer in buffers:
            buffer[1:] = float("nan")
        self.req_to_token_pool = pools.ReqToTokenPool(4, WIDTH, "cpu", False)
        self.req_to_token_pool.req_to_token[1:] = SLOTS  # nobody's, and never written
        self.backend = self.srt("layers.attention.attention_registry").ATTENTION_BACKENDS["torch_native"](self)
        self.layer = self.srt("layers.radix_attention").RadixAttention(**sizes, scaling=0.4, layer_id=0, **layer)
        self.info = self.srt("model_executor.forward_batch_info")
        self.free = iter(torch.randperm(SLOTS - 1, generator=torch.Generator().manual_seed(3)).add(1).tolist())
        self.seen: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.numbers = torch.Generator().manual_seed(7)

    def drawn(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.numbers)

    def forward_batch(self, rows: list[int], new: list[int], mode: str) -> Any:
        kept = [len(self.seen.get(row, [])) for row in rows]
        lengths = [before + more for before, more in zip(kept, new, strict=True)]
        places = [next(self.free) for _ in range(sum(new))]
        handed = iter(places)
        for row, before, length in zip(rows, kept, lengths, strict=True):
            for at in range(before, length):
                self.req_to_token_pool.req_to_token[row, at] = next(handed)
        batch = self.info.ForwardBatch(
            self.info.ForwardMode[mode],
            len(rows),
            torch.zeros(sum(new), dtype=torch.int64),
            torch.tensor(rows),
            torch.tensor(lengths),
            torch.tensor(places),
            sum(lengths),
            seq_lens_cpu=torch.tensor(lengths),
        )
        if mode == "EXTEND":
            batch.extend_prefix_lens_cpu, batch.extend_seq_lens_cpu = kept, new
        if self.in_batch:
            batch.attn_backend = self.backend
        return batch

    @contextmanager
    def context(self) -> Iterator[None]:
        if self.in_batch:
            yield
            return
        context = self.srt("model_executor.forward_context")
        with context.forward_context(context.ForwardContext(self.backend)):
            yield

    def inputs(self, rows: list[int], new: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values of new tokens; what the sequences have seen is kept."""
        heads, kept, layer = self.layer.tp_q_head_num, self.layer.tp_k_head_num, self.layer
        count = sum(new)
        q, k = self.drawn(count, heads * layer.qk_head_dim), self.drawn(count, kept, layer.qk_head_dim)
        v = k[..., : layer.v_head_dim] if kept == 1 else self.drawn(count, kept, layer.v_head_dim)
        each = iter(zip(k, v, strict=True))
        for row, more in zip(rows, new, strict=True):
            self.seen.setdefault(row, []).extend(next(each) for _ in range(more))
        return q, k.reshape(count, -1), v.reshape(count, -1)

    def run(self, rows: list[int], new: list[int], mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        """What the layer gives, and what it should."""
        batch = self.forward_batch(rows, new, mode)
        q, k, v = self.inputs(rows, new)
        self.backend.init_forward_metadata(batch)
        with self.context():
            given = self.layer(q, k, v, batch)
        return given, self.expected(q, rows, new)

    def expected(self, q: torch.Tensor, rows: list[int], new: list[int]) -> torch.Tensor:
        """Token by token and head by head, in float64."""
        layer, out, queries = self.layer, [], iter(q.double())
        for row, more in zip(rows, new, strict=True):
            known = self.seen[row]
            for at in range(len(known) - more, len(known)):
                first = max(0, at - layer.sliding_window_size) if layer.sliding_window_size > -1 else 0
                keys = torch.stack([k for k, _ in known[first : at + 1]]).double()
                values = torch.stack([v for _, v in known[first : at + 1]]).double()
                heads = next(queries).view(layer.tp_q_head_num, layer.qk_head_dim)
                group = layer.tp_q_head_num // layer.tp_k_head_num
                for head, query in enumerate(heads):
                    scores = keys[:, head // group] @ query * layer.scaling
                    if layer.logit_cap:
                        scores = layer.logit_cap * torch.tanh(scores / layer.logit_cap)
                    out.append(torch.softmax(scores, 0) @ values[:, head // group])
        return torch.cat(out).view(len(q), -1)


Make = Callable[..., Stand]


@pytest.fixture(params=RELEASES)
def make(request: pytest.FixtureRequest, install: Any, module: Callable[[str], Any]) -> Make:
    install(request.param)
    return lambda **told: Stand(module, request.param, **told)


def close(given: torch.Tensor, expected: torch.Tensor) -> bool:
    return given.shape == expected.shape and bool((given.double() - expected).abs().max() < 1e-5)


@pytest.mark.parametrize(
    "told",
    [{}, {"shape": "latent"}, {"sliding_window_size": 3}, {"logit_cap": 2.0}],
    ids=["grouped", "latent", "window", "cap"],
)
def test_prefill_in_parts_and_decode_are_attention(make: Make, told: dict[str, Any]) -> None:
    stand = make(**told)
    assert close(*stand.run([3, 1], [5, 2], "EXTEND"))
    assert close(*stand.run([1, 2, 3], [3, 4, 1], "EXTEND"))
    for _ in range(3):
        assert close(*stand.run([2, 3, 1], [1, 1, 1], "DECODE"))


def test_a_batch_without_sequences_gives_an_empty_tensor(make: Make) -> None:
    stand = make()
    batch = stand.forward_batch([], [], "IDLE")
    stand.backend.init_forward_metadata(batch)
    with stand.context():
        given = stand.layer(torch.zeros(0, 24), None, None, batch)
    assert given.shape == (0, 24)


def test_lengths_that_only_the_device_knows_serve_as_well(make: Make) -> None:
    stand = make()
    batch = stand.forward_batch([1, 2], [4, 2], "EXTEND")
    batch.extend_prefix_lens, batch.extend_seq_lens = torch.tensor([0, 0]), torch.tensor([4, 2])
    batch.extend_prefix_lens_cpu = batch.extend_seq_lens_cpu = None
    q, k, v = stand.inputs([1, 2], [4, 2])
    stand.backend.init_forward_metadata(batch)
    with stand.context():
        assert close(stand.layer(q, k, v, batch), stand.expected(q, [1, 2], [4, 2]))
    later = stand.forward_batch([1, 2], [1, 1], "DECODE")
    later.seq_lens_cpu = None
    q, k, v = stand.inputs([1, 2], [1, 1])
    stand.backend.init_forward_metadata(later)
    with stand.context():
        assert close(stand.layer(q, k, v, later), stand.expected(q, [1, 2], [1, 1]))


def plan(stand: Stand, batch: Any) -> None:
    """Tell the backend of a graph's batch, as before a replay."""
    if stand.in_batch:
        told = (batch.seq_lens_sum, None, batch.forward_mode, None, None)
        stand.backend.init_forward_metadata_replay_cuda_graph(
            batch.batch_size, batch.req_pool_indices, batch.seq_lens, *told
        )
    else:
        stand.backend.init_forward_metadata_out_graph(batch)


def test_metadata_of_graphs_stay_in_place_and_hold_what_fills_a_batch_up(make: Make) -> None:
    stand = make()
    stand.run([1, 2], [6, 2], "EXTEND")
    stand.backend.init_cuda_graph_state(8, 8)
    addresses = set()
    for _ in range(2):
        batch = stand.forward_batch([2, 1], [1, 1], "DECODE")
        q, k, v = stand.inputs([2, 1], [1, 1])
        fill = stand.backend.get_cuda_graph_seq_len_fill_value()
        batch.batch_size = 4
        batch.req_pool_indices = torch.cat([batch.req_pool_indices, torch.tensor([0, 0])])
        batch.seq_lens = torch.cat([batch.seq_lens, torch.tensor([fill, fill])])
        batch.out_cache_loc = torch.cat([batch.out_cache_loc, torch.tensor([0, 0])])
        plan(stand, batch)
        wide = [torch.cat([each, torch.zeros(2, each.shape[1])]) for each in (q, k, v)]
        with stand.context():
            given = stand.layer(*wide, batch)
        assert close(given[:2], stand.expected(q, [2, 1], [1, 1]))
        assert given.isfinite().all()
        (places,) = stand.backend.forward_metadata
        addresses.add((places.locations.data_ptr(), places.positions.data_ptr(), places.locations.shape))
    assert len(addresses) == 1


def test_a_graph_needs_buffers_and_serves_decode_alone(make: Make) -> None:
    stand = make()
    stand.run([1], [3], "EXTEND")
    with pytest.raises(RuntimeError, match="init_cuda_graph_state"):
        plan(stand, stand.forward_batch([1], [1], "DECODE"))
    stand.backend.init_cuda_graph_state(2, 2)
    with pytest.raises(NotCovered, match="EXTEND"):
        plan(stand, stand.forward_batch([1], [1], "EXTEND"))


def test_attention_other_than_a_decoders_is_refused(make: Make) -> None:
    stand = make(is_cross_attention=True)
    with pytest.raises(NotCovered, match="decoder"):
        stand.run([1], [2], "EXTEND")


def test_the_last_of_a_name_serves(install: Any, module: Callable[[str], Any]) -> None:
    install()
    registry = module("sglang.srt.layers.attention.attention_registry")

    def ours(runner: Any) -> Any:
        return ("ours", runner)

    assert registry.register_attention_backend("torch_native")(ours) is ours
    runner = SimpleNamespace()
    assert registry.ATTENTION_BACKENDS["torch_native"](runner) == ("ours", runner)
    backend = object()
    assert registry.attn_backend_wrapper(runner, backend) is backend


@pytest.mark.parametrize("release", ["0.5.16", "0.5.17"])
def test_a_layer_hands_on_what_its_release_does_not_name(
    install: Any, module: Callable[[str], Any], release: str
) -> None:
    install(release)
    given: list[dict[str, Any]] = []
    backend = SimpleNamespace(forward=lambda *args, **kwargs: given.append(kwargs))
    layer = module("sglang.srt.layers.radix_attention").RadixAttention(1, 2, 1.0, 1, 0)
    context = module("sglang.srt.model_executor.forward_context")
    q = torch.zeros(1, 2)
    with context.forward_context(context.ForwardContext(backend)):
        layer(q, q, q, None, True, sinks=3)
    assert given == [{"sinks": 3}]
