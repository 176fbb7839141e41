"""Linear layers, vocabularies and experts of the reference, divided among ranks, against the whole in float64."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import sglang_reference
from reference.layer_parts import load, state

RELEASES = ["0.5.11", "0.5.21", "0.5.23"]
LINEAR = "sglang.srt.layers.linear"
VOCABULARY = "sglang.srt.layers.vocab_parallel_embedding"
EXPERTS = "sglang.srt.layers.moe.fused_moe_triton.layer"
REDUCE = "tensor_model_parallel_all_reduce"

Module = Callable[[str], Any]
Array = np.ndarray[Any, Any]


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, install: Any) -> str:
    name: str = request.param
    install(name)
    return name


def wide(x: torch.Tensor) -> Array:
    return x.detach().to(torch.float64).numpy()


def near(got: torch.Tensor | Array, expected: Array) -> None:
    np.testing.assert_allclose(wide(got) if isinstance(got, torch.Tensor) else got, expected, rtol=1e-5, atol=1e-5)


def noting(summed: list[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """A reduction that only notes what it is given."""

    def reduce(part: torch.Tensor) -> torch.Tensor:
        summed.append(part)
        return part

    return reduce


def on_each(
    monkeypatch: pytest.MonkeyPatch, release: str, size: int, run: Callable[[int], torch.Tensor], kind: str = "tp"
) -> list[torch.Tensor]:
    """What each rank makes, one after the other."""
    made = []
    for rank in range(size):
        state(monkeypatch, release, **{kind: (rank, size)}, **({} if kind == "tp" else {"tp": (rank, size)}))
        made.append(run(rank))
    return made


@pytest.mark.parametrize("size", [1, 4])
def test_outputs_divided(module: Module, release: str, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    weight, bias, x = torch.randn(8, 6), torch.randn(8), torch.randn(3, 6)

    def run(rank: int) -> torch.Tensor:
        layer = module(LINEAR).ColumnParallelLinear(6, 8)
        load(layer.weight, weight)
        load(layer.bias, bias)
        output, left = layer(x)
        assert left is None
        result: torch.Tensor = output
        return result

    parts = on_each(monkeypatch, release, size, run)
    near(torch.cat(parts, dim=-1), wide(x) @ wide(weight).T + wide(bias))


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("merged", [True, False])
def test_several_outputs_divided(
    module: Module, release: str, monkeypatch: pytest.MonkeyPatch, size: int, merged: bool
) -> None:
    gate, up, x = torch.randn(8, 6), torch.randn(4, 6), torch.randn(3, 6)

    def run(rank: int) -> torch.Tensor:
        layer = module(LINEAR).MergedColumnParallelLinear(6, [8, 4], bias=False)
        if merged:
            load(layer.weight, torch.cat([gate, up]))
        else:
            load(layer.weight, up, 1)
            load(layer.weight, gate, 0)
        assert layer.output_partition_sizes == [8 // size, 4 // size]
        result: torch.Tensor = layer(x)[0]
        return result

    parts = [torch.split(part, [8 // size, 4 // size], -1) for part in on_each(monkeypatch, release, size, run)]
    near(torch.cat([part[0] for part in parts], dim=-1), wide(x) @ wide(gate).T)
    near(torch.cat([part[1] for part in parts], dim=-1), wide(x) @ wide(up).T)


@pytest.mark.parametrize(
    ("size", "keys", "merged"), [(1, 2, True), (2, 2, False), (4, 2, True), (4, 2, False), (2, 4, False), (4, 1, True)]
)
def test_heads_divided(
    module: Module, release: str, monkeypatch: pytest.MonkeyPatch, size: int, keys: int, merged: bool
) -> None:
    heads, width, x = 4, 3, torch.randn(2, 6)
    weights = {name: torch.randn(count * width, 6) for name, count in (("q", heads), ("k", keys), ("v", keys))}

    def run(rank: int) -> torch.Tensor:
        layer = module(LINEAR).QKVParallelLinear(6, width, heads, keys, bias=False)
        if merged:
            load(layer.weight, torch.cat(list(weights.values())))
        else:
            for name, weight in weights.items():
                load(layer.weight, weight, name)
        own = max(keys // size, 1)
        assert (layer.num_heads, layer.num_kv_heads) == (heads // size, own)
        assert layer.num_kv_head_replicas == max(size // keys, 1)
        output: torch.Tensor = layer(x)[0]
        queries = torch.split(output, [heads // size * width, own * width, own * width], -1)
        for number, got in enumerate(queries):
            whole = wide(x) @ wide(list(weights.values())[number]).T
            count = heads // size if number == 0 else own
            # Query head h attends to key head h // (heads / keys), wherever that is.
            first = rank * count if number == 0 else rank * (heads // size) // (heads // keys)
            near(got, whole[:, first * width : (first + count) * width])
        return output

    on_each(monkeypatch, release, size, run)


@pytest.mark.parametrize(("size", "divided"), [(1, True), (2, False), (4, True)])
def test_inputs_divided(
    module: Module, release: str, monkeypatch: pytest.MonkeyPatch, size: int, divided: bool
) -> None:
    weight, bias, x = torch.randn(5, 8), torch.randn(5), torch.randn(3, 8)
    summed: list[torch.Tensor] = []
    monkeypatch.setattr(module(LINEAR), REDUCE, noting(summed))

    def run(rank: int) -> torch.Tensor:
        layer = module(LINEAR).RowParallelLinear(8, 5, input_is_parallel=divided)
        load(layer.weight, weight)
        load(layer.bias, bias)
        inputs = x.chunk(size, dim=-1)[rank] if divided else x
        alone: torch.Tensor = layer(inputs, skip_all_reduce=True)[0]
        near(layer(inputs)[0], wide(alone))
        return alone

    parts = on_each(monkeypatch, release, size, run)
    near(sum(wide(part) for part in parts), wide(x) @ wide(weight).T + wide(bias))  # type: ignore[arg-type]
    assert len(summed) == (size if size > 1 else 0)


def test_a_bias_may_be_left_to_the_caller(module: Module, release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state(monkeypatch, release)
    for kind in ("ReplicatedLinear", "ColumnParallelLinear", "RowParallelLinear"):
        layer = getattr(module(LINEAR), kind)(4, 2, skip_bias_add=True)
        load(layer.weight, torch.zeros(2, 4))
        load(layer.bias, torch.ones(2))
        output, left = layer(torch.ones(1, 4))
        assert output.tolist() == [[0.0, 0.0]]
        assert left.tolist() == [1.0, 1.0]


def test_a_vendors_method_is_called_as_sglang_calls_it(
    module: Module, release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state(monkeypatch, release)
    config, made, applied = method_of_a_vendor(module)
    linear = module(LINEAR)
    linear.ReplicatedLinear(4, 6, bias=False, quant_config=config, prefix="a.gate")(torch.ones(1, 4))
    linear.MergedColumnParallelLinear(4, [6, 2], bias=False, quant_config=config, prefix="a.up")(torch.ones(1, 4))
    linear.RowParallelLinear(4, 6, bias=False, quant_config=config, prefix="a.down")(torch.ones(1, 4))
    common = {"weight_loader"}
    assert made == [
        ("a.gate", (4, [6], 4, 6, torch.float32), common),
        ("a.up", (4, [6, 2], 4, 8, torch.float32), common | {"skip_block_quant_check"}),
        ("a.down", (4, [6], 4, 6, torch.float32), common),
    ]
    assert applied == [((None,), {}), ((None,), {}), ((), {"bias": None})]


def method_of_a_vendor(module: Module) -> tuple[Any, list[Any], list[Any]]:
    """A configuration whose method tells how it is called."""
    base: Any = module("sglang.srt.layers.quantization.base_config").LinearMethodBase
    named: list[str] = []
    made: list[Any] = []
    applied: list[Any] = []

    class Method(base):  # type: ignore[misc]
        def create_weights(
            self,
            layer: Any,
            input_size_per_partition: int,
            output_partition_sizes: list[int],
            input_size: int,
            output_size: int,
            params_dtype: torch.dtype,
            **more: Any,
        ) -> None:
            sizes = (input_size_per_partition, output_partition_sizes, input_size, output_size, params_dtype)
            made.append((named[-1], sizes, set(more)))

        def apply(self, layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            applied.append((args, kwargs))
            return x

    def method(layer: Any, prefix: str) -> Any:
        named.append(prefix)
        return Method()

    return SimpleNamespace(get_quant_method=method), made, applied


def test_a_weight_of_another_shape_is_refused(module: Module, release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state(monkeypatch, release)
    layer = module(LINEAR).ReplicatedLinear(4, 2)
    with pytest.raises(AssertionError, match=r"\(2, 4\), the weight \(3, 4\)"):
        load(layer.weight, torch.zeros(3, 4))


def test_a_quantised_weight_is_refused(module: Module, release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state(monkeypatch, release)
    layer = module(LINEAR).ReplicatedLinear(4, 2)
    layer.weight.packed_dim = 1
    with pytest.raises(sglang_reference.NotCovered, match="packed_dim"):
        load(layer.weight, torch.zeros(2, 4))


@pytest.mark.parametrize(("size", "rows"), [(1, 10), (2, 64), (2, 65), (4, 100)])
def test_vocabulary_divided(
    module: Module, release: str, monkeypatch: pytest.MonkeyPatch, size: int, rows: int
) -> None:
    weight, tokens = torch.randn(rows, 4), torch.tensor([0, 1, rows // 2, rows - 1])
    monkeypatch.setattr(module(VOCABULARY), REDUCE, lambda part: part)

    def run(rank: int) -> torch.Tensor:
        table = module(VOCABULARY).VocabParallelEmbedding(rows, 4)
        load(table.weight, weight)
        head = module(VOCABULARY).ParallelLMHead(rows, 4).tie_weights(table)
        assert head.weight is table.weight
        with pytest.raises(RuntimeError, match="logits processor"):
            head(tokens)
        result: torch.Tensor = table(tokens)
        return torch.cat([result.flatten(), table.weight.detach().flatten()])

    parts = on_each(monkeypatch, release, size, run)
    near(sum(wide(part[:16]) for part in parts).reshape(4, 4), wide(weight[tokens]))  # type: ignore[union-attr]
    whole = torch.cat([part[16:].reshape(-1, 4) for part in parts])
    near(whole[:rows], wide(weight))
    assert not whole[rows:].any()


def expected_experts(x: Array, weights: list[list[Array]], chosen: Array, share: Array) -> Array:
    result = np.zeros_like(x)
    for token in range(len(x)):
        for number, expert in enumerate(chosen[token]):
            gate, down, up = weights[expert]
            states = gate @ x[token]
            result[token] += share[token, number] * (down @ (states / (1 + np.exp(-states)) * (up @ x[token])))
    return result


@pytest.mark.parametrize(
    ("ranks", "within", "reduce"), [(1, 1, True), (2, 1, False), (4, 1, True), (1, 2, True), (2, 2, True)]
)
def test_experts_divided(
    module: Module, release: str, monkeypatch: pytest.MonkeyPatch, ranks: int, within: int, reduce: bool
) -> None:
    weights = [[torch.randn(8, 4), torch.randn(4, 8), torch.randn(8, 4)] for _ in range(4)]
    x, logits = torch.randn(5, 4), torch.randn(5, 4)
    summed: list[torch.Tensor] = []
    monkeypatch.setattr(module(EXPERTS), REDUCE, noting(summed))
    kind = module("sglang.srt.layers.moe.ep_moe.layer").get_moe_impl_class(None)
    mapping = kind.make_expert_params_mapping("w1", "w2", "w3", 4)
    total = np.zeros((5, 4))
    for rank in range(ranks * within):
        parts = {"moe_ep": (rank // within, ranks), "moe_tp": (rank % within, within), "tp": (rank, ranks * within)}
        state(monkeypatch, release, **parts)
        layer = kind(num_experts=4, hidden_size=4, intermediate_size=8, layer_id=0, top_k=2, reduce_results=reduce)
        chosen = module("sglang.srt.layers.moe.topk").TopK(top_k=2, layer_id=0)(x, logits)
        for prefix, name, expert, shard in mapping:
            param = getattr(layer, prefix.removeprefix("experts.") + "weight")
            weight = weights[expert][("w1", "w2", "w3").index(shard)]
            param.weight_loader(param, weight, f"{name}weight", shard_id=shard, expert_id=expert)
        total += wide(layer(x, chosen))
    whole = [[wide(weight) for weight in each] for each in weights]
    near(total, expected_experts(wide(x), whole, chosen.topk_ids.numpy(), wide(chosen.topk_weights)))
    assert len(summed) == (ranks * within if reduce and ranks * within > 1 else 0)


def test_experts_are_an_operator_of_their_own(
    module: Module, platform_plugin: Any, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_plugin("acme", "Platform.get_dispatch_key_name = lambda self: 'acme'")
    install()
    state(monkeypatch, "0.5.23")
    method = module("sglang.srt.layers.quantization.unquant").UnquantizedFusedMoEMethod
    standard = module("sglang.srt.layers.moe.token_dispatcher").StandardCombineInput

    def own(self: Any, layer: Any, dispatch_output: Any) -> Any:
        return standard(dispatch_output.hidden_states + 1)

    module("sglang.kernels.fused_op").BaseFusedOp.register_oot_forward(method, own, "acme")
    layer = module(EXPERTS).FusedMoE(num_experts=2, hidden_size=4, intermediate_size=8, layer_id=0)
    assert layer(torch.zeros(1, 4), None).tolist() == [[1.0] * 4]


MODES = {
    "extend": SimpleNamespace(is_extend=lambda: True, is_decode_or_idle=lambda: False),
    "decode": SimpleNamespace(is_extend=lambda: False, is_decode_or_idle=lambda: True),
}


@pytest.mark.parametrize(
    ("size", "mode", "dtype"),
    [(1, "extend", torch.float32), (2, "extend", torch.bfloat16), (2, "decode", torch.float32)],
)
def test_logits(
    module: Module, release: str, monkeypatch: pytest.MonkeyPatch, size: int, mode: str, dtype: torch.dtype
) -> None:
    processor = module("sglang.srt.layers.logits_processor")
    weight, states = torch.randn(10, 4, dtype=dtype), torch.randn(5, 4, dtype=dtype)
    parts: list[torch.Tensor] = []

    def gather(part: torch.Tensor) -> torch.Tensor:
        parts.append(part)
        return torch.cat([*parts, *[torch.zeros_like(part)] * (size - len(parts))], dim=-1)

    monkeypatch.setattr(processor, "tensor_model_parallel_all_gather", gather)
    batch = SimpleNamespace(forward_mode=MODES[mode], extend_seq_lens=torch.tensor([2, 1, 2]), return_logprob=False)

    def run(rank: int) -> torch.Tensor:
        head = module(VOCABULARY).ParallelLMHead(10, 4, params_dtype=dtype)
        load(head.weight, weight)
        made = processor.LogitsProcessor(SimpleNamespace(vocab_size=10))(None, states, head, batch)
        logits: torch.Tensor = made.next_token_logits
        assert logits.dtype == torch.float32
        return logits

    logits = on_each(monkeypatch, release, size, run)[-1]
    rows = [1, 2, 4] if mode == "extend" else range(5)
    expected = wide(states)[rows] @ wide(weight).T
    np.testing.assert_allclose(wide(logits), expected, atol=1e-5 if dtype == torch.float32 else 0.1)
