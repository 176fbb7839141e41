"""Plugins whose graphs serve a model wrongly."""

from __future__ import annotations

from zoo.defects.graphs import ALL_REDUCE, CAPTURING
from zoo.defects.pynccl import _hook
from zoo.workshop import Defect, Edit

_DEADLINE = 30.0
_COPY = (
    "        for buffer, tensor in zip(self._inputs[size], inputs, strict=True):\n            buffer.copy_(tensor)\n"
)
_CAN_RUN = "        return any(forward_batch.batch_size <= size for size in self._inputs)\n"
_REPLAYED = "        captured.replay()\n        return output\n"
_SIZE = "        size = min(size for size in self._inputs if size >= forward_batch.batch_size)\n"
_FILL = '    fill = {"seq_lens": attention.get_cuda_graph_seq_len_fill_value()}\n'
_CUT = "next_token_logits=output.next_token_logits[:count]"
_FORWARD = "        return model_runner.model.forward(batch.input_ids, batch.positions, batch)\n"
_SIZES = "    sizes: list[int] = get_batch_sizes_to_capture(model_runner)[0]\n"
_MAKING = "        self.capture_bs: list[int] = []\n"
_RUNNER = "class SimGraphRunner:\n"


def _runner(name: str, requirement: str, *changes: tuple[str, str], also: tuple[str, ...] = ()) -> Defect:
    """Some changes to the runner, or its backend."""
    edits = tuple(Edit("graph_runner.py", old, new) for old, new in changes)
    return Defect(name, requirement, edits, of="sim", also=also, deadline=_DEADLINE)


def _steps(name: str, requirement: str, *changes: tuple[str, str], also: tuple[str, ...] = ()) -> Defect:
    """Some changes to what is captured, and to how a batch is given to it."""
    edits = tuple(Edit("decoding.py", old, new) for old, new in changes)
    return Defect(name, requirement, edits, of="sim", also=also, deadline=_DEADLINE)


def _stale(name: str, number: int) -> Defect:
    """One of a step's inputs is not copied."""
    kept = f"            if buffer is not self._inputs[size][{number}]:\n                buffer.copy_(tensor)\n"
    return _runner(name, "JOUR-032", (_COPY, _COPY.replace("            buffer.copy_(tensor)\n", kept)))


DEFECTS = (
    # There are none, or they are not used.
    _steps("runner-captures-nothing", "JOUR-030", (_SIZES, "    sizes: list[int] = []\n    return sizes\n")),
    _steps(
        "capture-reads-a-token-on-the-host",
        "JOUR-030",
        (
            _FORWARD,
            "        if int(batch.input_ids[0]) < 0:\n            raise ValueError('no such token')\n" + _FORWARD,
        ),
    ),
    _runner(
        "runner-refuses-the-largest-size",
        "JOUR-031",
        (_CAN_RUN, _CAN_RUN.replace("<= size", "< size")),
    ),
    # A replay computes something else.
    _stale("replays-compute-with-the-captured-tokens", 0),
    _stale("replays-compute-with-the-captured-positions", 1),
    _stale("replays-compute-with-the-captured-lengths", 3),
    _stale("replays-write-to-the-captured-slots", 4),
    _runner(
        "replays-give-the-output-of-the-one-before",
        "JOUR-032",
        (
            _REPLAYED,
            "        import copy\n\n"
            "        before = copy.copy(output)\n"
            "        before.next_token_logits = output.next_token_logits.clone()\n"
            "        captured.replay()\n        return before\n",
        ),
    ),
    _runner(
        "replays-are-of-the-size-that-was-captured-last",
        "JOUR-032",
        (
            _REPLAYED,
            "        list(self._captured.values())[-1][0].replay()\n        return output\n",
        ),
    ),
    # A batch is filled up wrongly.
    _steps(
        "rows-that-fill-up-write-where-the-first-request-does",
        "JOUR-033",
        (
            "    whole = dataclasses.replace(forward_batch,",
            '    idle[INPUTS.index("out_cache_loc")][count:] = forward_batch.out_cache_loc[0]\n'
            "    whole = dataclasses.replace(forward_batch,",
        ),
    ),
    _steps(
        "rows-of-requests-are-cut-instead-of-those-that-fill-up",
        "JOUR-033",
        (_CUT, "next_token_logits=output.next_token_logits[-count:]"),
    ),
    _steps(
        "rows-that-fill-up-come-first",
        "JOUR-033",
        (
            "        tensor[:count].copy_(getattr(forward_batch, name))",
            "        tensor[-count:].copy_(getattr(forward_batch, name))",
        ),
    ),
    # A batch is larger than all graphs.
    _runner(
        "runner-can-run-what-it-has-not-captured",
        "JOUR-034",
        (_CAN_RUN, "        return True\n"),
    ),
    _runner(
        "runner-computes-what-fits-of-a-larger-batch",
        "JOUR-034",
        (_CAN_RUN, "        return True\n"),
        (
            _SIZE,
            "        size = min((s for s in self._inputs if s >= forward_batch.batch_size), default=0)\n"
            "        if not size:\n            size = max(self._inputs)\n"
            "            last = self._backend._captured[size][1]\n"
            "            logits = last.next_token_logits[:1].repeat(forward_batch.batch_size, 1)\n"
            "            return __import__('dataclasses').replace(last, next_token_logits=logits)\n",
        ),
    ),
    # Of some models.
    _steps(
        "graphs-of-experts-compute-with-token-zero",
        "JOUR-035",
        (
            _FORWARD,
            "        if 'Mixtral' in type(model_runner.model).__name__:\n"
            "            batch.input_ids = batch.input_ids * 0\n" + _FORWARD,
        ),
    ),
    # With other weights, or captured anew.
    _steps(
        "graphs-have-weights-of-their-own",
        "JOUR-036",
        (
            _FORWARD,
            "        model, given = model_runner.model, (batch.input_ids, batch.positions, batch)\n"
            "        now = {name: weight.detach().clone() for name, weight in model.named_parameters()}\n"
            "        own = model_runner.__dict__.setdefault('own_weights', now)\n"
            "        return torch.func.functional_call(model, own, given)\n",
        ),
    ),
    _runner(
        "runners-are-kept-for-ever",
        "JOUR-037",
        (_RUNNER, f"_kept: list[Any] = []\n\n\n{_RUNNER}"),
        (_MAKING, f"{_MAKING}        _kept.append(self)\n"),
    ),
    # On several ranks.
    Defect(
        "all-reduce-is-left-out-of-captures",
        "JOUR-038",
        _hook(
            "",
            "",
            ALL_REDUCE,
            "group, tensor",
            f"if {CAPTURING} and tensor.shape[-1] == 128:",
            "    return tensor",
            "return original(group, tensor)",
        ).edits,
        of="sim",
        deadline=_DEADLINE,
    ),
    Defect(
        "every-third-replay-leaves-its-last-step-out",
        "JOUR-033",
        (
            Edit(
                "graphs.py",
                "            for step in self._steps:\n                step.run()\n",
                '            self._turn = getattr(self, "_turn", 0) + 1\n'
                "            for step in self._steps if self._turn % 3 else self._steps[:-1]:\n"
                "                step.run()\n",
            ),
        ),
        of="sim",
        deadline=_DEADLINE,
    ),
)
