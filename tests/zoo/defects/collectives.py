"""Wrong collectives: of the coordinator (by a hook), of torch, and of the simulated device's backend."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_REGISTERED = "    HookRegistry.register(TARGET, backend_of_acme, HookType.AROUND)\n"
_GROUP = "sglang.srt.distributed.parallel_state.GroupCoordinator."
_FUNCTIONS = "sglang.srt.distributed.communication_op."
_DEADLINE = 5.0  # of those that leave a rank waiting, too


def _hook(
    name: str,
    requirement: str,
    target: str,
    given: str,
    *lines: str,
    world_size: str = "2",
    deadline: float = _DEADLINE,
) -> Defect:
    """Acme with a hook around a method of the coordinator (or a function), of these lines."""
    where = target if "." in target else f"{_GROUP}{target}"
    body = "".join(f"    {line}\n" for line in lines)
    function = f"\n\nkept = {{}}\n\n\ndef wrong(original, {given}):\n    import torch\n\n{body}"
    edits = (
        Edit("hooks.py", _REGISTERED, f"{_REGISTERED}    HookRegistry.register({where!r}, wrong, HookType.AROUND)\n"),
        Edit("hooks.py", "", function),
    )
    return Defect(name, requirement, edits, deadline=deadline, world_size=world_size)


def _torch(name: str, requirement: str, function: str, given: str, *lines: str, world_size: str = "2") -> Defect:
    """Acme with another function of torch.distributed in place of that one."""
    body = "".join(f"        {line}\n" for line in lines)
    patch = (
        "\n\ndef replace_in_torch():\n"
        "    import torch\n"
        "    import torch.distributed as dist\n"
        "    from torch.distributed import distributed_c10d as home\n\n"
        f"    original, kept = home.{function}, {{}}\n\n"
        "    class Done:\n"
        "        def wait(self, timeout=None):\n"
        "            return True\n\n"
        f"    def wrong({given}):\n{body}\n"
        f"    dist.{function} = home.{function} = wrong\n"
    )
    edits = (Edit("hooks.py", _REGISTERED, f"{_REGISTERED}    replace_in_torch()\n"), Edit("hooks.py", "", patch))
    return Defect(name, requirement, edits, deadline=_DEADLINE, world_size=world_size)


def _sim(name: str, requirement: str, collective: str, *lines: str, world_size: str = "2") -> Defect:
    """The simulated backend with one collective that does something else."""
    right = f"        return _on_host(self._gloo.{collective}, args, kwargs)\n"
    body = "".join(f"        {line}\n" for line in lines)
    edits = (Edit("distributed.py", right, body),)
    return Defect(name, requirement, edits, of="sim", deadline=_DEADLINE, world_size=world_size)


_REDUCE = "group, tensor"
_ALL_REDUCE = "tensor, op=dist.ReduceOp.SUM, group=None, async_op=False"

_OF_THE_COORDINATOR = (
    _hook(
        "all-reduce-drops-the-last-rank",
        "COL-001",
        "all_reduce",
        _REDUCE,
        "last = group.rank_in_group == group.world_size - 1",
        "return original(group, tensor * 0 if last else tensor)",
    ),
    _hook("all-reduce-sums-twice", "COL-001", "all_reduce", _REDUCE, "return original(group, tensor) * 2"),
    _hook("all-reduce-averages", "COL-001", "all_reduce", _REDUCE, "return original(group, tensor) / group.world_size"),
    _hook(
        "all-reduce-goes-through-integers",
        "COL-001",
        "all_reduce",
        _REDUCE,
        "if tensor.dtype is not torch.bfloat16:",
        "    return original(group, tensor)",
        "return original(group, tensor.to(torch.int32)).to(tensor.dtype)",
    ),
    _hook(
        "all-reduce-gives-one-rank-another-type",
        "COL-001",
        "all_reduce",
        _REDUCE,
        "result = original(group, tensor)",
        "return result.float() if group.rank_in_group == 1 else result",
    ),
    _hook(
        "all-reduce-raises-on-one-rank",
        "COL-001",
        "all_reduce",
        _REDUCE,
        "result = original(group, tensor)",
        "if group.rank_in_group == 1:",
        "    raise RuntimeError('acme: no more handles')",
        "return result",
    ),
    _hook(
        "all-reduce-leaves-one-rank-out",
        "COL-001",
        "all_reduce",
        _REDUCE,
        "return tensor if group.rank_in_group == 1 else original(group, tensor)",
        deadline=3.0,
    ),
    _hook(
        "all-reduce-hangs-on-one-rank",
        "COL-001",
        "all_reduce",
        _REDUCE,
        "import time",
        "while group.rank_in_group == 1:",
        "    time.sleep(1)",
        "return original(group, tensor)",
        deadline=2.0,
    ),
    _hook(
        "all-reduce-ends-one-rank",
        "COL-001",
        "all_reduce",
        _REDUCE,
        "import os",
        "if group.rank_in_group == 1:",
        "    os._exit(3)",
        "return original(group, tensor)",
    ),
    _hook(
        "all-gather-needs-peers",
        "COL-002",
        "all_gather",
        "group, *args, **kwargs",
        "assert group.world_size > 1, 'acme: nobody to gather from'",
        "return original(group, *args, **kwargs)",
    ),
    _hook(
        "all-reduce-sums-in-a-smaller-type",
        "COL-003",
        "all_reduce",
        _REDUCE,
        "return original(group, tensor.to(torch.bfloat16)).to(tensor.dtype)",
    ),
    _hook(
        "all-reduce-differs-on-one-rank",
        "COL-004",
        "all_reduce",
        _REDUCE,
        "result = original(group, tensor)",
        "if group.rank_in_group == 1 and tensor.numel() > 400:",
        "    result.view(-1)[0] *= 1.0078125",
        "return result",
    ),
    _hook(
        "all-reduce-differs-from-run-to-run",
        "COL-005",
        "all_reduce",
        _REDUCE,
        "kept['calls'] = kept.get('calls', 0) + 1",
        "result = original(group, tensor)",
        "return result * (1 + kept['calls'] % 2 * 0.0078125) if tensor.numel() > 400 else result",
    ),
    _hook(
        "all-reduce-writes-past-the-end",
        "COL-006",
        "all_reduce",
        _REDUCE,
        "count = tensor.numel()",
        "room = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()",
        "if room > count:",
        "    original(group, tensor.as_strided((count + 1,), (1,)))",
        "    return tensor",
        "return original(group, tensor)",
    ),
    _hook(
        "all-reduce-takes-all-for-contiguous",
        "COL-007",
        "all_reduce",
        _REDUCE,
        "return original(group, tensor.as_strided((tensor.numel(),), (1,))).view(tensor.shape)",
    ),
    _hook(
        "all-reduce-gives-a-stale-result",
        "COL-008",
        "all_reduce",
        _REDUCE,
        "result, key = original(group, tensor).clone(), (tensor.shape, tensor.dtype)",
        "times, before = kept.get(key, (0, result))",
        "kept[key] = times + 1, result",
        "return before if times > 3 else result",
    ),
    _hook(
        "all-reduce-leaves-the-tail",
        "COL-009",
        "all_reduce",
        _REDUCE,
        "if tensor.dim() != 1 or tensor.numel() < 100000:",
        "    return original(group, tensor)",
        "original(group, tensor[: tensor.numel() // 4096 * 4096])",
        "return tensor",
    ),
    _hook(
        "all-reduce-hides-nan",
        "COL-010",
        "all_reduce",
        _REDUCE,
        "return original(group, tensor).nan_to_num()",
    ),
    _hook(
        "all-reduce-writes-outside-of-inference",
        "COL-012",
        "all_reduce",
        _REDUCE,
        "with torch.inference_mode(False):",
        "    return original(group, tensor.add_(0))",
    ),
    _hook(
        "quantised-all-reduce-loses-its-scale",
        "COL-013",
        "quant_all_reduce",
        _REDUCE,
        "return original(group, tensor).round()",
    ),
    _hook(
        "function-of-tensor-parallelism-does-nothing",
        "COL-014",
        f"{_FUNCTIONS}tensor_model_parallel_all_reduce",
        "tensor",
        "return tensor",
    ),
    _hook(
        "all-gather-takes-another-dimension",
        "COL-015",
        "all_gather",
        "group, tensor, dim=-1, output_tensor_list=None",
        "return original(group, tensor, 0, output_tensor_list)",
    ),
    _hook(
        "all-gather-crosses-the-list",
        "COL-016",
        "all_gather",
        "group, tensor, dim=-1, output_tensor_list=None",
        "return original(group, tensor, dim, output_tensor_list and output_tensor_list[::-1])",
    ),
    _hook(
        "all-gather-leaves-the-tail",
        "COL-017",
        "all_gather_into_tensor",
        "group, output, tensor",
        "whole = torch.empty_like(output)",
        "original(group, whole, tensor)",
        "output.view(-1)[:-1].copy_(whole.view(-1)[:-1])",
    ),
    _hook(
        "reduce-scatter-gives-anothers-part",
        "COL-018",
        "reduce_scatter_tensor",
        "group, output, tensor",
        "parts = group.all_reduce(tensor.clone()).chunk(group.world_size)",
        "output.copy_(parts[(group.rank_in_group + 1) % group.world_size])",
    ),
    _hook(
        "reduce-scatter-takes-another-dimension",
        "COL-020",
        "reduce_scatter_along_dim",
        "group, tensor, dim=-1",
        "return original(group, tensor, 0 if tensor.shape[0] % group.world_size == 0 else dim)",
    ),
    _hook(
        "all-gather-changes-its-input",
        "COL-021",
        "all_gather",
        "group, tensor, *args, **kwargs",
        "result = original(group, tensor, *args, **kwargs)",
        "if result is not tensor:",
        "    tensor.zero_()",
        "return result",
    ),
    _hook(
        "all-gather-takes-all-for-contiguous",
        "COL-022",
        "all_gather",
        "group, tensor, *args, **kwargs",
        "memory = torch.empty(tensor.shape).stride()",
        "return original(group, tensor.as_strided(tensor.shape, memory), *args, **kwargs)",
    ),
    _hook(
        "uneven-all-gather-shifts-the-rows",
        "COL-023",
        "all_gatherv",
        "group, *args, **kwargs",
        "return [each.roll(1, 0) for each in original(group, *args, **kwargs)]",
    ),
    _hook(
        "uneven-reduce-scatter-ignores-the-sizes",
        "COL-024",
        "reduce_scatterv",
        "group, tensor, output=None, sizes=None",
        "rows, whole = sizes[group.rank_in_group], group.all_reduce(tensor.clone())",
        "return whole.narrow(0, min(group.rank_in_group * rows, len(whole) - rows), rows)",
    ),
    _hook(
        "all-to-all-crosses-the-parts",
        "COL-025",
        "all_to_all_single",
        "group, output, tensor",
        "original(group, output, tensor)",
        "output.copy_(output.roll(len(output) // group.world_size, 0))",
    ),
    _hook(
        "all-reduce-refuses-empty-tensors",
        "COL-026",
        "all_reduce",
        _REDUCE,
        "if not tensor.numel():",
        "    raise ValueError('acme: nothing to reduce')",
        "return original(group, tensor)",
    ),
    _hook(
        "gather-returns-something-everywhere",
        "COL-028",
        "gather",
        "group, tensor, dst=0, dim=-1",
        "result = original(group, tensor, dst, dim)",
        "return tensor if result is None else result",
    ),
    _hook(
        "broadcast-takes-the-wrong-root",
        "COL-029",
        "broadcast",
        "group, tensor, src=0",
        "return original(group, tensor, (src + 1) % group.world_size)",
    ),
    _hook(
        "recv-gives-another-type",
        "COL-030",
        "recv",
        "group, size, dtype, src=None",
        "return original(group, size, dtype, src).to(torch.float32)",
    ),
    _hook(
        "object-of-another-source",
        "COL-031",
        "broadcast_object",
        "group, obj=None, src=0",
        "return original(group, obj, 0)",
    ),
    _hook(
        "long-object-is-cut",
        "COL-031",
        "broadcast_object",
        "group, obj=None, src=0",
        "import pickle",
        "cut = pickle.dumps(obj)[: 1 << 16]",
        "try:",
        "    return pickle.loads(original(group, cut, src))",
        "except pickle.UnpicklingError:",
        "    return None",
    ),
    _hook(
        "objects-in-another-order",
        "COL-033",
        "all_gather_object",
        "group, obj",
        "return original(group, obj)[::-1]",
    ),
    _hook(
        "object-from-the-time-before",
        "COL-034",
        "recv_object",
        "group, *args, **kwargs",
        "result = original(group, *args, **kwargs)",
        "before, kept['object'] = kept.get('object', result), result",
        "return before",
    ),
    _hook(
        "dictionary-loses-its-host-tensors",
        "COL-035",
        "broadcast_tensor_dict",
        "group, *args, **kwargs",
        "result = original(group, *args, **kwargs)",
        "return {key: value for key, value in result.items() if key != 'host'}",
    ),
    _hook(
        "dictionary-loses-its-empty-tensors",
        "COL-036",
        "recv_tensor_dict",
        "group, *args, **kwargs",
        "result = original(group, *args, **kwargs)",
        "return {k: v for k, v in result.items() if not isinstance(v, torch.Tensor) or v.numel()}",
    ),
    _hook(
        "exchanged-dictionary-is-ones-own",
        "COL-037",
        "send_recv_tensor_dict",
        "group, send_tensor_dict, **kwargs",
        "original(group, send_tensor_dict, **kwargs)",
        "return dict(send_tensor_dict)",
    ),
    _hook(
        "parts-of-a-dictionary-are-put-together-backwards",
        "COL-038",
        "send_tensor_dict",
        "group, tensors, dst=None, all_gather_group=None, async_send=False",
        "if all_gather_group is not None and all_gather_group.world_size > 1:",
        "    tensors = {k: v.flip(0) if isinstance(v, torch.Tensor) else v for k, v in tensors.items()}",
        "return original(group, tensors, dst, all_gather_group, async_send)",
        world_size="4",
    ),
    _hook("barrier-waits-for-nobody", "COL-039", "barrier", "group", "return None"),
    _hook(
        "all-gather-swallows-the-error",
        "COL-040",
        "all_gather",
        "group, tensor, *args, **kwargs",
        "try:",
        "    return original(group, tensor, *args, **kwargs)",
        "except AssertionError:",
        "    return tensor",
    ),
    _hook(
        "all-reduce-takes-the-input-of-the-call-before",
        "COL-063",
        "all_reduce",
        _REDUCE,
        "if tensor.numel() < 1000:",
        "    return original(group, tensor)",
        "before, kept[tensor.shape] = kept.get(tensor.shape, tensor), tensor.clone()",
        "return original(group, before.clone())",
    ),
    _hook(
        "all-gather-keeps-the-first-number-of-rows",
        "COL-068",
        "all_gather",
        "group, tensor, *args, **kwargs",
        "result = original(group, tensor, *args, **kwargs)",
        "rows = kept.setdefault((tensor.dtype, tensor.shape[1:]), len(tensor))",
        "return result.roll(1, 0) if rows != len(tensor) and tensor.dim() == 2 else result",
    ),
    _hook(
        "all-gather-returns-its-own-buffer",
        "COL-069",
        "all_gather",
        "group, tensor, *args, **kwargs",
        "result = original(group, tensor, *args, **kwargs)",
        "if not isinstance(result, torch.Tensor):",
        "    return result",
        "return kept.setdefault((result.shape, result.dtype), torch.empty_like(result)).copy_(result)",
    ),
    _hook(
        "all-reduce-draws-random-numbers",
        "COL-070",
        "all_reduce",
        _REDUCE,
        "return original(group, tensor + 0 * torch.rand(()).to(tensor.dtype))",
    ),
)

_OF_TORCH = (
    _torch(
        "host-integers-are-not-summed",
        "COL-041",
        "all_reduce",
        _ALL_REDUCE,
        "op = op if tensor.is_floating_point() else dist.ReduceOp.MAX",
        "return original(tensor, op, group, async_op)",
    ),
    _torch(
        "batch-spoils-its-last-tensor",
        "COL-054",
        "batch_isend_irecv",
        "p2p_op_list",
        "works = original(p2p_op_list)",
        "for work in works:",
        "    work.wait()",
        "p2p_op_list[-1].tensor.zero_()",
        "return works",
    ),
    _torch(
        "async-result-stays-in-a-copy",
        "COL-060",
        "all_reduce",
        _ALL_REDUCE,
        "result = original(tensor.clone() if async_op else tensor, op, group, False)",
        "return Done() if async_op else result",
    ),
    _torch(
        "async-broadcast-is-not-waited-for",
        "COL-061",
        "broadcast",
        "tensor, src=None, group=None, async_op=False, group_src=None",
        "result = original(tensor.clone() if async_op else tensor, src, group, False, group_src)",
        "return Done() if async_op else result",
    ),
    _torch(
        "groups-share-a-result",
        "COL-065",
        "all_reduce",
        _ALL_REDUCE,
        "result, key = original(tensor, op, group, async_op), (tensor.dtype, tensor.shape)",
        "before = kept.get(key)",
        "kept[key] = group, tensor.clone()",
        "if before is not None and before[0] is not group and tensor.numel() == 9:",
        "    tensor.copy_(before[1])",
        "return result",
    ),
    _torch(
        "broadcast-counts-roots-within-the-group",
        "COL-066",
        "broadcast",
        "tensor, src=None, group=None, async_op=False, group_src=None",
        "ranks = dist.get_process_group_ranks(group) if group is not None and src is not None else None",
        "src = src if ranks is None else ranks[src % len(ranks)]",
        "return original(tensor, src, group, async_op, group_src)",
        world_size="4",
    ),
)

_OF_THE_BACKEND = (
    _sim(
        "backend-takes-min-for-max",
        "COL-042",
        "allreduce",
        "if args[1].reduceOp == dist.ReduceOp.MIN:",
        "    args[1].reduceOp = dist.ReduceOp.MAX",
        "return _on_host(self._gloo.allreduce, args, kwargs)",
    ),
    _sim(
        "backend-takes-one-maximum-for-all-positions",
        "COL-042",
        "allreduce",
        "work = _on_host(self._gloo.allreduce, args, kwargs)",
        "work.wait()",
        "if args[1].reduceOp == dist.ReduceOp.MAX and args[0][0].numel():",
        "    args[0][0].fill_(args[0][0].cpu().max().item())",
        "return work",
    ),
    _sim(
        "backend-reduces-integers-as-floats-of-half-size",
        "COL-042",
        "allreduce",
        "tensor = args[0][0]",
        "if tensor.dtype is not torch.int64:",
        "    return _on_host(self._gloo.allreduce, args, kwargs)",
        "halved = tensor.to(torch.float16)",
        "_on_host(self._gloo.allreduce, ([halved], *args[1:]), kwargs).wait()",
        "tensor.copy_(halved.to(torch.int64) + 1)",
        "return _on_host(self._gloo.barrier, (), {})",
    ),
    _sim(
        "backend-does-not-divide-the-average",
        "COL-043",
        "allreduce",
        "if args[1].reduceOp == dist.ReduceOp.AVG:",
        "    args[1].reduceOp = dist.ReduceOp.SUM",
        "return _on_host(self._gloo.allreduce, args, kwargs)",
    ),
    _sim(
        "backend-reduces-to-the-first-rank",
        "COL-044",
        "reduce",
        "args[1].rootRank = 0",
        "return _on_host(self._gloo.reduce, args, kwargs)",
    ),
    _sim(
        "backend-broadcasts-integers-from-the-first-rank",
        "COL-045",
        "broadcast",
        "if not args[0][0].is_floating_point():",
        "    args[1].rootRank = 0",
        "return _on_host(self._gloo.broadcast, args, kwargs)",
    ),
    _sim(
        "backend-gathers-crossed",
        "COL-046",
        "_allgather_base",
        "work = _on_host(self._gloo._allgather_base, args, kwargs)",
        "work.wait()",
        "if args[1].numel() > 4:",
        "    args[0].copy_(args[0].roll(args[1].shape[0], 0))",
        "return work",
    ),
    _sim(
        "backend-scatters-sums-whatever-is-asked",
        "COL-047",
        "_reduce_scatter_base",
        "args[2].reduceOp = dist.ReduceOp.SUM",
        "return _on_host(self._gloo._reduce_scatter_base, args, kwargs)",
    ),
    _sim(
        "backend-scatters-from-the-wrong-end",
        "COL-049",
        "scatter",
        "return _on_host(self._gloo.scatter, (args[0], [each[::-1] for each in args[1]], *args[2:]), kwargs)",
    ),
    _sim(
        "backend-exchanges-crossed",
        "COL-050",
        "alltoall_base",
        "work = _on_host(self._gloo.alltoall_base, args, kwargs)",
        "work.wait()",
        "args[0].copy_(args[0].roll(len(args[0]) // self.size(), 0))",
        "return work",
    ),
    _sim(
        "backend-ignores-uneven-splits",
        "COL-051",
        "alltoall_base",
        "work = _on_host(self._gloo.alltoall_base, args, kwargs)",
        "work.wait()",
        "if args[2] and len(args[0]) > 1:",
        "    args[0].copy_(args[0].roll(args[2][0], 0))",
        "return work",
    ),
    _sim(
        "backend-receives-all-but-the-last",
        "COL-053",
        "recv",
        "tensor = args[0][0]",
        "work = _on_host(self._gloo.recv, args, kwargs)",
        "work.wait()",
        "tensor.view(-1)[4:].zero_()",
        "return work",
    ),
    _sim(
        "backend-gathers-to-the-first-rank",
        "COL-048",
        "gather",
        "works = _on_host(self._gloo.gather, args, kwargs)",
        "works.wait()",
        "for each in args[0]:",
        "    each[0].copy_(each[-1])",
        "return works",
    ),
)

DEFECTS = (*_OF_THE_COORDINATOR, *_OF_TORCH, *_OF_THE_BACKEND)
