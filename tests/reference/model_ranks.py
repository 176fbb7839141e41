"""Models on ranks of the reference: made, loaded and run on batches of known tokens, with pools that hold traps.

The pools' slots hold NaN where nothing was written, and rows of the table of requests go on with such slots after their
sequences: what looks further than it should gives no number.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from reference.group_ranks import lifetime
from sglang_conformance.ranks.rank import Rank

CONTEXT = 64
ROWS = 8


def srt(name: str) -> Any:
    """A module below ``sglang.srt``."""
    return importlib.import_module(f"sglang.srt.{name}")


def before(release: str, other: str) -> bool:
    """Whether a release is an earlier one."""
    parts = [tuple(int(part) for part in each.split(".")[:3]) for each in (release, other)]
    return parts[0] < parts[1]


class Bench:
    """A model with pools and an attention backend, as a runner would have them."""

    def __init__(self, model_path: str, release: str, tp: int, device: str = "cpu", dtype: str = "float32") -> None:
        import torch

        self.release, self.device = release, device
        configs = srt("configs.model_config")
        self.config = configs.ModelConfig(model_path, dtype=dtype)
        self.model = srt("model_loader").get_model(
            model_config=self.config,
            load_config=srt("configs.load_config").LoadConfig(),
            device_config=SimpleNamespace(device=device),
        )
        pools = srt("mem_cache.memory_pool")
        common = {
            "size": ROWS * CONTEXT,
            "page_size": 1,
            "dtype": self.config.dtype,
            "layer_num": self.model.end_layer - self.model.start_layer,
            "device": device,
            "enable_memory_saver": False,
            "start_layer": self.model.start_layer,
            "end_layer": self.model.end_layer - 1,
        }
        if self.config.attention_arch == configs.AttentionArch.MLA:
            sizes = {"kv_lora_rank": self.config.kv_lora_rank, "qk_rope_head_dim": self.config.qk_rope_head_dim}
            self.token_to_kv_pool = pools.MLATokenToKVPool(**common, **sizes)
            buffers = self.token_to_kv_pool.kv_buffer
        else:
            heads = {"head_num": self.config.get_num_kv_heads(tp), "head_dim": self.config.head_dim}
            self.token_to_kv_pool = pools.MHATokenToKVPool(**common, **heads)
            buffers = [*self.token_to_kv_pool.k_buffer, *self.token_to_kv_pool.v_buffer]
        for buffer in buffers:
            buffer[1:] = float("nan")
        self.req_to_token_pool = pools.ReqToTokenPool(ROWS, CONTEXT, device, False)
        self.slots = torch.randperm(ROWS * CONTEXT, generator=torch.Generator().manual_seed(5)) + 1
        self.req_to_token_pool.req_to_token[1:].fill_(int(self.slots[-1]))
        self.server_args = SimpleNamespace(attention_backend="torch_native")
        self.prefill_attention_backend_str = "torch_native"
        registry = srt("layers.attention.attention_registry")
        self.attn_backend = registry.ATTENTION_BACKENDS["torch_native"](self)
        self.used = 0

    def batch(self, rows: Sequence[int], tokens: Sequence[Sequence[int]], kept: Sequence[int], mode: str) -> Any:
        """A batch of the scheduler's: these new tokens of the sequences in these rows, after those that are kept."""
        import torch

        lengths = [prefix + len(new) for prefix, new in zip(kept, tokens, strict=True)]
        flat = [token for new in tokens for token in new]
        places = self.slots[self.used : self.used + len(flat)].to(self.device)
        self.used += len(flat)
        at = 0
        for row, prefix, length in zip(rows, kept, lengths, strict=True):
            self.req_to_token_pool.req_to_token[row, prefix:length] = places[at : at + length - prefix].int()
            at += length - prefix
        extends = {"extend_lens": [len(new) for new in tokens], "prefix_lens": list(kept)}
        if before(self.release, "0.5.13"):
            extends = {"extend_seq_lens": extends["extend_lens"], "extend_prefix_lens": extends["prefix_lens"]}
        return SimpleNamespace(
            forward_mode=srt("model_executor.forward_batch_info").ForwardMode[mode],
            input_ids=torch.tensor(flat, device=self.device),
            req_pool_indices=torch.tensor(list(rows), device=self.device),
            seq_lens=torch.tensor(lengths, device=self.device),
            seq_lens_cpu=torch.tensor(lengths),
            seq_lens_sum=sum(lengths),
            out_cache_loc=places,
            extend_num_tokens=len(flat),
            reqs=[SimpleNamespace(rid=str(row)) for row in rows],
            **(extends if mode == "EXTEND" else {}),
        )

    def forward_batch(self, batch: Any) -> Any:
        """The same, for the model."""
        more = {} if before(self.release, "0.5.16") else {"return_hidden_states_before_norm": False}
        return srt("model_executor.forward_batch_info").ForwardBatch.init_new(batch, self, **more)

    @contextmanager
    def context(self) -> Iterator[None]:
        """What a release publishes while a pass runs."""
        if before(self.release, "0.5.13"):
            yield
            return
        context = srt("model_executor.forward_context")
        with context.forward_context(context.ForwardContext(attn_backend=self.attn_backend)):
            yield

    def run(self, forward_batch: Any) -> Any:
        """One pass on this stage, which receives from the one before it and sends to the next; logits on the last."""
        group = self.model.pp_group
        received = {}
        if not group.is_first_rank:
            info = srt("model_executor.forward_batch_info")
            received = {"pp_proxy_tensors": info.PPProxyTensors(group.recv_tensor_dict())}
        self.attn_backend.init_forward_metadata(forward_batch)
        with self.context():
            out = self.model(forward_batch.input_ids, forward_batch.positions, forward_batch, **received)
        if group.is_last_rank:
            return out.next_token_logits
        group.send_tensor_dict(out.tensors)
        return None


class Captured:
    """A decode of ``size`` sequences in a graph of the simulated device, as a release's graph runner makes it."""

    def __init__(self, bench: Bench, size: int) -> None:
        import torch

        self.bench, self.size = bench, size
        self.sim = torch.get_device_module(bench.device)
        backend, info = bench.attn_backend, srt("model_executor.forward_batch_info")
        backend.init_cuda_graph_state(size + 3, size + 3)
        zeros = {name: torch.zeros(size, dtype=torch.int64, device=bench.device) for name in self.TAKEN}
        self.batch = info.ForwardBatch(info.ForwardMode.DECODE, size, **zeros, seq_lens_sum=0)
        if before(bench.release, "0.5.13"):
            self.batch.attn_backend = backend
        self.pad()
        self.plan(capture=True)
        self.run_model()
        self.graph = self.sim.Graph()
        with self.sim.graph(self.graph):
            if not before(bench.release, "0.5.13"):
                backend.init_forward_metadata_in_graph(self.batch)
            self.logits = self.run_model()

    TAKEN = ("input_ids", "req_pool_indices", "seq_lens", "out_cache_loc", "positions")

    def pad(self) -> None:
        """Have the batch hold only what fills it up."""
        for name in self.TAKEN:
            getattr(self.batch, name).fill_(0)
        self.batch.seq_lens.fill_(self.bench.attn_backend.get_cuda_graph_seq_len_fill_value())

    def plan(self, *, capture: bool) -> None:
        """Tell the attention backend of the batch before a capture or a replay."""
        backend, batch = self.bench.attn_backend, self.batch
        if not before(self.bench.release, "0.5.13"):
            backend.init_forward_metadata_out_graph(batch, **({"in_capture": True} if capture else {}))
            return
        rows, lengths, mode = batch.req_pool_indices, batch.seq_lens, batch.forward_mode
        if capture:
            backend.init_forward_metadata_capture_cuda_graph(self.size, self.size, rows, lengths, None, mode, None)
        else:
            backend.init_forward_metadata_replay_cuda_graph(self.size, rows, lengths, 0, None, mode, None, None)

    def run_model(self) -> Any:
        """The model on the batch as it stands."""
        with self.bench.context():
            out = self.bench.model(self.batch.input_ids, self.batch.positions, self.batch)
        return out.next_token_logits

    def run(self, forward_batch: Any) -> Any:
        """The same decode, from the graph."""
        self.pad()
        for name in self.TAKEN:
            getattr(self.batch, name)[: forward_batch.batch_size].copy_(getattr(forward_batch, name))
        self.plan(capture=False)
        self.graph.replay()
        return self.logits[: forward_batch.batch_size].clone()


def publish(rank: Rank, tp: int, pp: int, ep: int) -> None:
    """State what follows of the sizes, as a runner does from 0.5.21 on."""
    context = srt("runtime_context")
    inner = rank.number % tp
    widths = context.derive_parallel_widths(
        tp_size=tp, attn_cp_size=1, attn_dp_size=1, moe_ep_size=ep, moe_dp_size=1, dcp_size=1, dcp_enabled=False
    )
    context.get_parallel().override_permanently(
        **widths, tp_rank=inner, attn_tp_rank=inner, pp_rank=rank.number // tp, moe_ep_rank=inner // (tp // ep)
    )
    if tp // ep > 1:
        context.get_parallel().override_permanently(moe_tp_rank=inner % (tp // ep))


@contextmanager
def benched(
    rank: Rank, folder: str, release: str, model: str, device: str, dtype: str, tp: int, pp: int, ep: int
) -> Iterator[Any]:
    """A bench on the groups of these sizes."""
    if device == "sim":
        importlib.import_module("sglang_simulated.device").register()
    with lifetime(rank, folder, release, tp_size=tp, pp_size=pp, moe_ep_size=ep):
        if not before(release, "0.5.21"):
            publish(rank, tp, pp, ep)
        yield Bench(model, release, tp, device, dtype)


def logits(
    rank: Rank,
    folder: str,
    release: str,
    model: str,
    sequences: list[list[int]],
    prompts: list[int],
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    device: str = "cpu",
    dtype: str = "float32",
    graph: bool = False,
) -> list[Any] | None:
    """Logits after each prompt and each token after it: prompts in two parts, then one token of each at a time.

    Every sequence has as many tokens after its prompt as the others. With ``graph`` the latter are from a device graph
    for more sequences than there are.
    """
    with benched(rank, folder, release, model, device, dtype, tp, pp, ep) as bench:
        rows = list(range(1, len(sequences) + 1))
        found = []
        half = [length // 2 for length in prompts]
        parts = [
            ([each[:at] for each, at in zip(sequences, half, strict=True)], [0] * len(rows)),
            ([each[at:to] for each, at, to in zip(sequences, half, prompts, strict=True)], half),
        ]
        for new, kept in parts:
            out = bench.run(bench.forward_batch(bench.batch(rows, new, kept, "EXTEND")))
        found.append(out)
        decode = Captured(bench, len(rows) + 2).run if graph else bench.run
        for step in range(len(sequences[0]) - prompts[0]):
            kept = [length + step for length in prompts]
            new = [[each[at]] for each, at in zip(sequences, kept, strict=True)]
            found.append(decode(bench.forward_batch(bench.batch(rows, new, kept, "DECODE"))))
        return None if found[0] is None else [each.tolist() for each in found]
