"""Right collectives, made otherwise."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_REGISTERED = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_GROUP = "sglang.srt.distributed.parallel_state.GroupCoordinator."


def _hook(name: str, requirements: tuple[str, ...], why: str, method: str, given: str, *lines: str) -> Variant:
    """Acme with a hook around a method of the coordinator, of these lines."""
    body = "".join(f"    {line}\n" for line in lines)
    edits = (
        Edit(
            "hooks.py",
            _REGISTERED,
            f"{_REGISTERED}    HookRegistry.register({_GROUP + method!r}, own, HookType.AROUND)\n",
        ),
        Edit("hooks.py", "", f"\n\ndef own(original, {given}):\n    import torch\n\n{body}"),
    )
    return Variant(name, requirements, edits, why)


def _sim(name: str, requirements: tuple[str, ...], why: str, *changes: tuple[str, tuple[str, ...]]) -> Variant:
    """The simulated backend with other bodies of some collectives."""
    edits = (
        Edit(
            "distributed.py",
            f"        return _on_host(self._gloo.{collective}, args, kwargs)\n",
            "".join(f"        {line}\n" for line in lines),
        )
        for collective, lines in changes
    )
    return Variant(name, requirements, tuple(edits), why, of="sim")


VARIANTS = (
    _hook(
        "all-reduce-out-of-place",
        ("COL-001", "COL-002", "COL-006", "COL-008", "COL-063", "COL-070"),
        "SGLang uses what all_reduce returns: its custom engines reduce out of place too",
        "all_reduce",
        "group, tensor",
        "return original(group, tensor.clone())",
    ),
    _hook(
        "all-reduce-in-another-order",
        ("COL-001", "COL-003", "COL-004", "COL-005", "COL-009", "COL-010", "COL-011"),
        "addition in another order, and in a larger type, is within one rounding a rank; no order is promised",
        "all_reduce",
        "group, tensor",
        "parts = group.all_gather(tensor.reshape(1, -1), dim=0).float()",
        "return parts.flip(0).sum(0).to(tensor.dtype).reshape(tensor.shape)",
    ),
    _hook(
        "gather-by-all-gather",
        ("COL-028", "COL-021", "COL-022"),
        "backends without a gather of their own gather on all ranks, and keep it on one",
        "gather",
        "group, tensor, dst=0, dim=-1",
        "result = group.all_gather(tensor, dim=dim)",
        "return result if group.rank_in_group == dst else None",
    ),
    _hook(
        "uneven-all-gather-is-refused",
        ("COL-023",),
        "SGLang's own refuses where the group has no PyNccl",
        "all_gatherv",
        "group, *args, **kwargs",
        "raise RuntimeError('acme: all ranks must bring equally many rows')",
    ),
    _hook(
        "only-contiguous-tensors-are-reduced",
        ("COL-001", "COL-007"),
        "backends of accelerators refuse tensors that are not contiguous",
        "all_reduce",
        "group, tensor",
        "if not tensor.is_contiguous():",
        "    raise ValueError('acme: tensors must be contiguous')",
        "return original(group, tensor)",
    ),
    _sim(
        "backend-refuses-what-sglang-does-not-send",
        ("COL-042", "COL-043", "COL-045", "COL-055", "COL-057"),
        "accelerators have no float64, and their backends few operations; a clear error is right",
        (
            "allreduce",
            (
                "sent = (torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int64)",
                "named = (dist.ReduceOp.SUM, dist.ReduceOp.MIN, dist.ReduceOp.MAX)",
                "if args[0][0].dtype not in sent or all(args[1].reduceOp != each for each in named):",
                "    raise RuntimeError('simccl: not among the types and operations of this device')",
                "return _on_host(self._gloo.allreduce, args, kwargs)",
            ),
        ),
    ),
    _sim(
        "backend-completes-at-once",
        ("COL-060", "COL-061", "COL-062", "COL-065"),
        "work that is complete when the call returns may be waited for like any other",
        *(
            (
                collective,
                (f"work = _on_host(self._gloo.{collective}, args, kwargs)", "work.wait()", "return work"),
            )
            for collective in ("allreduce", "broadcast", "_allgather_base")
        ),
    ),
)
