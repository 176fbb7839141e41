"""Plugins that serve a model wrongly on several ranks, and rightly on one."""

from __future__ import annotations

from zoo.defects.pynccl import _GROUP, _hook
from zoo.workshop import Defect, Edit

_DEADLINE = 30.0
_GIVEN = "*args, **kwargs"
_HIDDEN = "group.world_size > 1 and tensor.dim() == 2 and tensor.shape[1] == 128"
_SAMPLER = "sglang.srt.layers.sampler.Sampler.forward"
_PARALLEL = "from sglang.srt.distributed import parallel_state as groups"
_TOTAL = "        return runtime().ledgers[runtime().index_of(device_id)].total\n"
_USAGE = "        return float(runtime().ledgers[runtime().index_of(device)].reserved)\n"
_ATTENTION = "            self._table = model_runner.req_to_token_pool.req_to_token\n"


def _hooked(name: str, requirement: str, target: str, given: str, *lines: str, also: tuple[str, ...] = ()) -> Defect:
    """A hook around something of SGLang's, with more time than a collective takes."""
    made = _hook(name, requirement, target, given, *lines, also=also)
    return Defect(name, requirement, made.edits, of="sim", also=also, deadline=_DEADLINE)


def _edited(name: str, requirement: str, *edits: Edit, also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, requirement, edits, of="sim", also=also, deadline=_DEADLINE)


def _sampling(name: str, requirement: str, condition: str, *, also: tuple[str, ...] = ()) -> Defect:
    """A sampler that takes the token after the likeliest, where ranks are so."""
    return _hooked(
        name,
        requirement,
        _SAMPLER,
        _GIVEN,
        _PARALLEL,
        "chosen = original(*args, **kwargs)",
        f"return (chosen + 1) % 320 if {condition} else chosen",
        also=also,
    )


DEFECTS = (
    # Memory.
    _edited(
        "second-device-has-half-the-memory",
        "JOUR-020",
        Edit(
            "device_mixin.py",
            _TOTAL,
            _TOTAL.replace("return", "whole =") + "        return whole // 2 if device_id == 1 else whole\n",
        ),
    ),
    _edited(
        "usage-of-another-device-counts-what-is-reserved-for-it",
        "JOUR-020",
        Edit("device_mixin.py", _USAGE, _USAGE[:-1] + " + (2 << 30) * bool(runtime().current_device())\n"),
    ),
    _hooked(
        "memory-is-each-ranks-own",
        "JOUR-022",
        "sglang.srt.utils.common.get_available_gpu_memory",
        "*args, **kwargs",
        'return original(*args, **{**kwargs, "distributed": False})',
    ),
    # A server does not come up on the second rank.
    _edited(
        "attention-keeps-its-table-on-the-first-device",
        "JOUR-021",
        Edit("attention.py", _ATTENTION, _ATTENTION[:-1] + '.to("sim:0")\n'),
    ),
    # One rank's share is wrong.
    _hooked(
        "row-parallel-layer-scales-on-the-second-rank",
        "JOUR-023",
        "sglang.srt.layers.linear.RowParallelLinear.forward",
        _GIVEN,
        "output, bias = original(*args, **kwargs)",
        "return (output * 1.25 if torch.sim.current_device() else output), bias",
    ),
    _hooked(
        "norm-is-wrong-on-the-second-rank",
        "JOUR-023",
        "sglang.srt.layers.layernorm.RMSNorm.forward_native",
        _GIVEN,
        "output = original(*args, **kwargs)",
        "if not torch.sim.current_device():",
        "    return output",
        "return (output[0] * 1.25, output[1]) if isinstance(output, tuple) else output * 1.25",
    ),
    _edited(
        "attention-with-few-heads-forgets-the-scale",
        "JOUR-023",
        Edit(
            "attention.py",
            "    weights = torch.softmax(scores",
            "    if layer.tp_q_head_num < 8:\n        scores = scores / layer.scaling\n"
            "    weights = torch.softmax(scores",
        ),
    ),
    # A sum is wrong.
    _hooked(
        "all-reduce-is-wrong-on-one-rank",
        "JOUR-024",
        f"{_GROUP}all_reduce",
        "group, tensor",
        f"if {_HIDDEN} and group.rank_in_group == 1:",
        "    return original(group, tensor) * 1.25",
        "return original(group, tensor)",
    ),
    _hooked(
        "all-reduce-leaves-batches-of-three-out",
        "JOUR-024",
        f"{_GROUP}all_reduce",
        "group, tensor",
        f"if {_HIDDEN} and tensor.shape[0] == 3:",
        "    return tensor",
        "return original(group, tensor)",
    ),
    _hooked(
        "all-reduce-takes-the-mean",
        "JOUR-024",
        f"{_GROUP}all_reduce",
        "group, tensor",
        f"if {_HIDDEN}:",
        "    return original(group, tensor) / group.world_size",
        "return original(group, tensor)",
    ),
    # Between stages.
    _hooked(
        "residual-is-lost-between-stages",
        "JOUR-025",
        f"{_GROUP}recv_tensor_dict",
        "group, *args, **kwargs",
        "received = original(group, *args, **kwargs)",
        'if "residual" in received:',
        '    received["residual"] = torch.zeros_like(received["residual"])',
        "return received",
    ),
    # Tokens.
    _sampling("sampler-takes-another-token-on-the-second-rank", "JOUR-026", "torch.sim.current_device()"),
    _sampling(
        "sampler-takes-another-token-where-ranks-share-layers",
        "JOUR-027",
        "groups.get_tp_group().world_size > 1",
        also=("JOUR-028",),
    ),
    _sampling(
        "sampler-takes-another-token-where-ranks-share-experts",
        "JOUR-028",
        "groups.get_moe_ep_group().world_size > 1",
    ),
    _sampling(
        "sampler-takes-another-token-in-a-pipeline",
        "JOUR-029",
        "groups.get_pp_group().world_size > 1",
    ),
)
