"""Drawn worlds of backends: platforms of any kind, asked in SGLang's words."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..backends import World

_DEVICES = ("cpu", "cuda", "npu", "xpu", "hpu", "musa", "mps", "mlu", "privateuseone", "")
_DEVICE = st.sampled_from(_DEVICES)
_BACKEND = st.sampled_from(("cncl", "gloo", "cpu:gloo,mlu:cncl", "", None, 5, "raises RuntimeError"))
_NUMBER = st.sampled_from((0, 0, 1 << 30, 3 << 20, None, -5, "text", "raises NotImplementedError"))
_ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "get_torch_distributed_backend_str": _BACKEND,
        "get_device_total_memory": _NUMBER,
        "get_current_memory_usage": _NUMBER,
        "is_pin_memory_available": st.sampled_from((True, False, None, "raises RuntimeError")),
        "get_compile_backend": st.sampled_from(("inductor", "mlu_backend", None, "raises ValueError")),
        "get_group_coordinator_device": st.sampled_from(("device:cpu", "device:meta", "text", "raises RuntimeError")),
    },
).map(lambda answers: tuple(answers.items()))


def _call(home: str, name: str, *arguments: Any) -> Any:
    return st.tuples(st.just(home), st.just(name), st.tuples(*arguments))


_CALL = st.one_of(
    _call("state", "get_default_distributed_backend", _DEVICE),
    _call("state", "get_default_distributed_backend", _DEVICE),
    _call("platform", "get_torch_distributed_backend_str"),
    _call("state", "_group_coordinator_device", st.integers(0, 7)),
    _call("state", "get_torch_distributed_pg_options", st.sampled_from((None, "tp", "moe_ep", "world"))),
    _call(
        "common", "get_available_gpu_memory", st.sampled_from(("mlu", "privateuseone", "tpu", "")), st.integers(0, 3)
    ),
    _call("common", "get_device_memory_capacity", st.sampled_from((None, "mlu", "tpu"))),
    _call("common", "is_pin_memory_available"),
    _call("common", "is_pin_memory_available", st.sampled_from((None, "cpu", "mlu", "cuda", "device:cpu"))),
    _call("common", "get_compiler_backend", st.sampled_from((None, "npugraph_ex", "max"))),
    _call("common", "support_triton", st.sampled_from(("torch_native", "intel_amx", "triton", "flashinfer", ""))),
    _call("common", "is_device_stream_capturing", st.sampled_from(("device:cpu", "device:meta", "device:cuda"))),
)
WORLDS = st.builds(
    World,
    st.sampled_from(("OOT", "OOT", "OOT", "UNSPECIFIED", "CPU", "CUDA", "NPU")),
    st.one_of(st.just("mlu"), _DEVICE),
    st.one_of(st.just("mlu"), _DEVICE),
    _ANSWERS,
    st.sets(st.sampled_from(("supports_triton", "graph_capture"))).map(lambda names: tuple(sorted(names))),
    st.none(),
    st.lists(_CALL, min_size=1, max_size=8).map(tuple),
)
"""Worlds of :mod:`parity.backends`."""
