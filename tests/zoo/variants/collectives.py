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
        "there-is-no-gather",
        ("COL-014", "COL-021", "COL-022", "COL-027", "COL-075", "COL-076"),
        "SGLang itself gathers on all ranks, and some backends have nothing else",
        "gather",
        "group, tensor, dst=0, dim=-1",
        "raise RuntimeError('acme: there is no gather')",
    ),
    _hook(
        "integers-are-not-reduced",
        ("COL-001", "COL-072"),
        "kernels that reduce are written for the types of activations; a clear error is right",
        "all_reduce",
        "group, tensor",
        "if not tensor.is_floating_point():",
        "    raise ValueError('acme: only floats are reduced')",
        "return original(group, tensor)",
    ),
    _hook(
        "uneven-all-gather-is-refused",
        ("COL-021", "COL-023", "COL-075"),
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
        "backend-takes-only-contiguous-tensors",
        ("COL-022", "COL-074"),
        "NCCL's backend raises for them, and so do others",
        *(
            (
                collective,
                (
                    "given = [leaf for leaf in leaves(args) if isinstance(leaf, torch.Tensor)]",
                    "if not all(leaf.is_contiguous() for leaf in given):",
                    "    raise ValueError('simccl: Tensors must be contiguous')",
                    f"return _on_host(self._gloo.{collective}, args, kwargs)",
                ),
            )
            for collective in ("broadcast", "allgather", "_allgather_base", "_reduce_scatter_base", "alltoall_base")
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
    _sim(
        "backend-refuses-extremes-of-floats-and-lists",
        ("COL-042", "COL-043", "COL-047", "COL-081", "COL-085"),
        "SGLang reduces integers by the least and the greatest, floats only by their sum, and scatters no lists",
        (
            "allreduce",
            (
                "if args[0][0].is_floating_point() and args[1].reduceOp in (dist.ReduceOp.MIN, dist.ReduceOp.MAX):",
                "    raise RuntimeError('simccl: no extremes of floats')",
                "return _on_host(self._gloo.allreduce, args, kwargs)",
            ),
        ),
        ("reduce_scatter", ("raise RuntimeError('simccl: give one tensor')",)),
    ),
    _sim(
        "backend-has-no-peers",
        ("COL-073",),
        "a backend for tensor parallelism alone refuses what only stages need",
        *(
            (collective, (f"raise RuntimeError('simccl: no {collective} on this device')",))
            for collective in ("send", "recv")
        ),
    ),
    _sim(
        "backend-has-no-roots-and-no-peers",
        (
            "COL-021",
            "COL-030",
            "COL-036",
            "COL-037",
            "COL-038",
            "COL-053",
            "COL-054",
            "COL-071",
            "COL-075",
            "COL-080",
            "COL-081",
            "COL-082",
            "COL-083",
            "COL-084",
            "COL-085",
        ),
        "a backend for tensor parallelism alone refuses at the first call what only stages and experts need",
        *(
            (collective, (f"raise RuntimeError('simccl: no {collective} on this device')",))
            for collective in ("reduce", "gather", "scatter", "send", "recv", "alltoall_base")
        ),
    ),
    _sim(
        "backend-gathers-into-the-first-of-many",
        ("COL-046", "COL-058"),
        "NCCL's all_gather fills as many of the outputs as there are ranks, however many it is given",
        (
            "allgather",
            (
                "firsts = [each[: self.size()] for each in args[0]]",
                "return _on_host(self._gloo.allgather, (firsts, *args[1:]), kwargs)",
            ),
        ),
    ),
    _sim(
        "backend-takes-dense-tensors-only",
        ("COL-083", "COL-084"),
        "accelerators' backends refuse tensors with gaps",
        *(
            (
                collective,
                (
                    "given = [leaf for leaf in leaves(args) if isinstance(leaf, SimTensor)]",
                    "if not all(each.is_contiguous() for each in given):",
                    "    raise ValueError('simccl: tensors must be contiguous')",
                    f"return _on_host(self._gloo.{collective}, args, kwargs)",
                ),
            )
            for collective in ("allreduce", "allgather", "_allgather_base", "_reduce_scatter_base", "send", "recv")
        ),
    ),
    _sim(
        "backend-refuses-groups-of-one",
        ("COL-046", "COL-080"),
        "SGLang's coordinators call nothing in a group of one rank",
        *(
            (
                collective,
                (
                    "if self.size() == 1:",
                    "    raise RuntimeError('simccl: nobody else is there')",
                    f"return _on_host(self._gloo.{collective}, args, kwargs)",
                ),
            )
            for collective in ("reduce", "allgather", "_reduce_scatter_base", "gather", "scatter", "alltoall_base")
        ),
    ),
    Variant(
        "device-has-no-eight-bit-floats",
        ("COL-055",),
        (
            Edit(
                "tensor.py",
                "    runtime().tracker.charge(leaf, runtime().ledgers[index])\n    return SimTensor(leaf, index)\n",
                "    if leaf.is_floating_point() and leaf.element_size() == 1:\n"
                "        raise RuntimeError(f'no {leaf.dtype} on this device')\n"
                "    runtime().tracker.charge(leaf, runtime().ledgers[index])\n    return SimTensor(leaf, index)\n",
            ),
        ),
        "older accelerators have no such type, and refuse the tensor itself",
        of="sim",
    ),
    Variant(
        "backend-needs-its-own-options",
        ("COL-059", "COL-065", "COL-066", "COL-080"),
        (
            Edit("distributed.py", "_create, devices=", "_create, extended_api=True, devices="),
            Edit(
                "distributed.py",
                "def _create(store: Any, rank: int, size: int, timeout: timedelta) -> SimProcessGroup:\n",
                "def _create(given: Any, options: Any) -> SimProcessGroup:\n"
                "    from sglang.srt.distributed import parallel_state\n\n"
                "    try:\n"
                "        parallel_state.get_world_group()\n"
                "    except (AssertionError, RuntimeError):\n"
                "        pass  # SGLang is not there yet\n"
                "    else:\n"
                "        if options != 'of simccl':\n"
                "            raise RuntimeError('simccl: its groups are made with its options')\n"
                "    store, rank, size, timeout = given.store, given.group_rank, given.group_size, given.timeout\n",
            ),
            Edit(
                "hooks.py",
                "    HookRegistry.register(BACKEND_OF_DEVICE, backend_of_device, HookType.AROUND)\n",
                "    HookRegistry.register(BACKEND_OF_DEVICE, backend_of_device, HookType.AROUND)\n"
                "    options = BACKEND_OF_DEVICE.replace('get_default_distributed_backend', "
                "'get_torch_distributed_pg_options')\n"
                "    HookRegistry.register(options, lambda original, name=None: 'of simccl', HookType.AROUND)\n",
            ),
        ),
        "SGLang makes every group of a device with what get_torch_distributed_pg_options gives",
        of="sim",
    ),
)
