"""Wrong graphs: the simulated accelerator's, its backend's for SGLang's runners, and groups that capture wrongly."""

from __future__ import annotations

from zoo.defects.pynccl import _DEADLINE, _GROUP, _MODULE, _edited, _hook
from zoo.workshop import Defect, Edit

_GIVEN = "group, *args, **kwargs"
_BASE = "class SimGraph:\n"
_RUN = "            for step in self._steps:\n                step.run()\n"
_JOINED = "        self.join(stream)\n\n    def capture_end"
# All graphs of a pool are replayed as the one that was captured last.
_NEWEST = (
    (
        "        self.abandon()\n        self._ready = True\n",
        "        self.abandon()\n        self._ready = True\n        _newest[self._pool] = self._steps\n",
    ),
    (_RUN, _RUN.replace("self._steps:", "_newest[self._pool]:")),
    (_BASE, f"_newest: dict[Any, Any] = {{}}\n\n\n{_BASE}"),
)
ALL_REDUCE = f"{_GROUP}all_reduce"
CAPTURING = "torch.sim.is_current_stream_capturing()"


_LATE = '''
"""Streams are behind: copies and replays are done when their stream goes on, or when somebody waits for it."""

import collections

waiting = collections.defaultdict(list)


def put_off(stream, function, *given):
    waiting[stream.stream_id].append((function, given))


def catch_up(*streams):
    for number in [stream.stream_id for stream in streams] or list(waiting):
        while waiting[number]:
            function, given = waiting[number].pop(0)
            function(*given)
'''

_QUEUES = """\
    from sglang_simulated import late

    stream = current_stream(runs_on)
    late.catch_up(stream)
    if func is _aten.copy_.default and len(sims) == 2 and stream.graph is None:
        late.put_off(stream, func, *(_on_host(leaf) for leaf in args))
        return args[0]
"""
_CATCHES_UP = "        from sglang_simulated import late\n\n        late.catch_up(self)\n"

BEHIND = (
    Edit("late.py", "", _LATE),
    Edit(
        "tensor.py",
        "    graph = current_stream(runs_on).graph\n",
        f"{_QUEUES}    graph = current_stream(runs_on).graph\n",
    ),
    *(
        Edit("streams.py", line, f"{_CATCHES_UP}{line}")
        for line in (
            '        self._refuse_in_capture("synchronize a stream")\n',
            "        event = Event() if event is None else event\n",
            "        if self.stream_id == 0:\n            return 0\n",
        )
    ),
    Edit(
        "streams.py",
        "        self.stream = current_stream() if stream is None else stream\n        self.graph",
        "        from sglang_simulated import late\n\n"
        "        self.stream = current_stream() if stream is None else stream\n"
        "        late.catch_up(self.stream)\n        self.graph",
    ),
    Edit(
        "device_module.py",
        "    current_stream(device).synchronize()\n",
        "    from sglang_simulated import late\n\n    current_stream(device).synchronize()\n    late.catch_up()\n",
    ),
    Edit(
        "graphs.py",
        "        with torch.no_grad():\n            for step in self._steps:\n                step.run()\n",
        "        from sglang_simulated import late\n\n"
        "        late.put_off(current_stream(), _run, tuple(self._steps))\n",
    ),
    Edit(
        "graphs.py",
        "class SimGraph:\n",
        "def _run(steps: Any) -> None:\n"
        "    with torch.no_grad():\n        for step in steps:\n            step.run()\n\n\nclass SimGraph:\n",
    ),
    Edit(
        "distributed.py",
        "    sims = [leaf for leaf in leaves((*args, *kwargs.values()))",
        "    from sglang_simulated import late\n\n    late.catch_up(current_stream())\n"
        "    sims = [leaf for leaf in leaves((*args, *kwargs.values()))",
    ),
)
"""A device whose streams are behind, each for itself, until something is queued there that cannot be put off."""


def _graph(name: str, requirement: str, *changes: tuple[str, str], also: tuple[str, ...] = ()) -> Defect:
    """Some changes to the device's graphs."""
    edits = tuple(Edit("graphs.py", old, new) for old, new in changes)
    return Defect(name, requirement, edits, of="sim", also=also, deadline=_DEADLINE)


def _backend(name: str, requirement: str, *changes: tuple[str, str], also: tuple[str, ...] = ()) -> Defect:
    """Some changes to the backend."""
    edits = tuple(Edit("graph_runner.py", old, new) for old, new in changes)
    return Defect(name, requirement, edits, of="sim", also=also, deadline=_DEADLINE)


def _scope(name: str, requirement: str, *lines: str, world_size: str = "2", method: str = "") -> Defect:
    """Another graph_capture() of groups, whose scope has this body."""
    body = (
        "import contextlib, types",
        "@contextlib.contextmanager",
        "def scope():",
        *(f"    {line}" for line in lines),
    )
    target = method or f"{_GROUP}graph_capture"
    return _hook(name, requirement, target, _GIVEN, *body, "return scope()", world_size=world_size)


def _once(name: str, requirement: str, method: str) -> Defect:
    """A collective that is done in the capture, and not captured: on a stream of its own."""
    return _hook(
        name,
        requirement,
        f"{_GROUP}{method}",
        _GIVEN,
        f"if not {CAPTURING}:",
        "    return original(group, *args, **kwargs)",
        "with torch.sim.stream(torch.sim.Stream()):",
        "    return original(group, *args, **kwargs)",
    )


_OF_THE_DEVICE = (
    _graph("graph-replays-nothing", "GRAPH-001", (_RUN, _RUN.replace("self._steps:", "self._steps[:0]:"))),
    _graph("graph-replays-twice", "GRAPH-001", (_RUN, _RUN.replace("self._steps:", "self._steps * 2:"))),
    _graph(
        "graph-gives-its-results-elsewhere", "GRAPH-001", ("                old.copy_(new)\n", "                pass\n")
    ),
    _graph(
        "capture-is-never-seen",
        "GRAPH-002",
        ("    return current_stream().graph is not None", "    return current_stream().graph is not None and False"),
    ),
    _graph(
        "capture-is-seen-on-other-streams",
        "GRAPH-002",
        (_JOINED, f"        _seen.append(self)\n{_JOINED}"),
        ("    return current_stream().graph is not None", "    return any(each._steps for each in _seen)"),
        (_BASE, f"_seen: list[Any] = []\n\n\n{_BASE}"),
        ("        if is_current_stream_capturing():\n", "        if current_stream().graph is not None:\n"),
    ),
    _graph(
        "graph-captures-on-a-stream-of-its-own",
        "GRAPH-003",
        ("StreamContext(Stream() if stream is None else stream)", "StreamContext(Stream())"),
    ),
    _graph(
        "graph-leaves-its-stream-current",
        "GRAPH-003",
        (
            "        finally:\n            self._context.__exit__()\n",
            "        finally:\n            from sglang_simulated.streams import set_stream\n\n"
            "            self._context.__exit__()\n            set_stream(Stream())\n",
        ),
    ),
    _graph(
        "graph-swallows-what-is-raised",
        "GRAPH-004",
        (
            "                self._graph.abandon()\n                self._graph.reset()\n",
            "                self._graph.abandon()\n                self._graph.reset()\n                return True\n",
        ),
    ),
    _graph(
        "graph-is-captured-for-ever-after-an-error",
        "GRAPH-004",
        (
            "                self._graph.abandon()\n                self._graph.reset()\n",
            "                self._graph.reset()\n",
        ),
    ),
    _edited(
        "graph-leaves-out-streams-that-join",
        "GRAPH-005",
        "streams.py",
        "            event.graph.join(self)\n",
        "            pass\n",
    ),
    _graph(
        "graph-keeps-what-was-reset",
        "GRAPH-006",
        ("        self._steps.clear()\n        self._ready", "        _kept.extend(self._steps)\n        self._ready"),
        (_BASE, f"_kept: list[Any] = []\n\n\n{_BASE}"),
    ),
    _graph(
        "replay-opens-a-file",
        "GRAPH-007",
        (_RUN, "            _opened.append(open('/dev/null'))\n" + _RUN),
        (_BASE, f"_opened: list[Any] = []\n\n\n{_BASE}"),
    ),
    Defect(
        "replay-is-late-unless-waited-for",
        "GRAPH-008",
        (
            Edit("graphs.py", _RUN, "            _late.extend(self._steps)\n"),
            Edit(
                "graphs.py",
                _BASE,
                "_late: list[Any] = []\n\n\ndef catch_up() -> None:\n"
                f"    while _late:\n        _late.pop(0).run()\n\n\n{_BASE}",
            ),
            Edit(
                "tensor.py",
                "    graph = current_stream(runs_on).graph\n",
                "    if index is None:\n        from sglang_simulated.graphs import catch_up\n\n        catch_up()\n"
                "    graph = current_stream(runs_on).graph\n",
            ),
        ),
        of="sim",
        deadline=_DEADLINE,
    ),
    _graph(
        "graph-is-bound-to-its-stream",
        "GRAPH-009",
        (_JOINED, f"        self._home = stream.stream_id\n{_JOINED}"),
        (
            _RUN,
            "            if current_stream().stream_id not in (0, self._home):\n"
            "                raise RuntimeError('replay on the stream of the capture')\n" + _RUN,
        ),
    ),
    _graph(
        "graphs-of-a-pool-replay-the-newest",
        "GRAPH-010",
        *_NEWEST,
    ),
)

_CAPTURED = "        with graph(captured, pool=self._pool, stream=self._stream):\n            output = forward_fn()\n"
_KEPT = "        self._captured[shape_key] = (captured, output, capture_inputs)"
_FOUND = "        captured, output, _ = self._captured[shape_key]"
_CAN_RUN = "        return shape_key in self._captured"

_OF_THE_BACKEND = (
    _backend(
        "backend-captures-on-a-stream-of-its-own",
        "GRAPH-011",
        ("pool=self._pool, stream=self._stream)", "pool=self._pool, stream=Stream())"),
    ),
    _backend(
        "backend-gives-the-first-of-several",
        "GRAPH-012",
        ("        return output\n\n    def cleanup", "        return _first(output)\n\n    def cleanup"),
        (
            "class SimGraphBackend:\n",
            "def _first(output: Any) -> Any:\n    return output[0] if isinstance(output, tuple) else output\n\n\n"
            "class SimGraphBackend:\n",
        ),
    ),
    _backend("backend-forgets-to-replay", "GRAPH-012", ("        captured.replay()\n        return", "        return")),
    _backend("backend-can-run-everything", "GRAPH-013", (_CAN_RUN, "        return bool(self._captured)")),
    _backend("backend-can-run-nothing", "GRAPH-013", (_CAN_RUN, "        return False")),
    _backend(
        "backend-can-run-what-it-has-cleaned-up",
        "GRAPH-013",
        ("        self._captured.clear()\n        self._pool = None", "        self._pool = None"),
    ),
    _backend(
        "backend-goes-by-the-size-alone",
        "GRAPH-014",
        (_KEPT, _KEPT.replace("shape_key]", "shape_key.size]")),
        (_FOUND, _FOUND.replace("shape_key]", "shape_key.size]")),
    ),
    _backend(
        "backend-captures-what-warm-ups-left",
        "GRAPH-015",
        ("            if post_warmup_hook is not None:\n", "            if False:\n"),
    ),
    _backend(
        "backend-captures-the-reset-too",
        "GRAPH-015",
        (
            _CAPTURED,
            "        with graph(captured, pool=self._pool, stream=self._stream):\n"
            "            if post_warmup_hook is not None:\n"
            "                post_warmup_hook()\n"
            "            output = forward_fn()\n",
        ),
        (
            "            if post_warmup_hook is not None:\n                post_warmup_hook()\n        captured",
            "        captured",
        ),
    ),
    _backend(
        "backend-begins-anew-in-each-session",
        "GRAPH-016",
        ("        self._stream = stream\n", "        self._stream = stream\n        self._captured.clear()\n"),
    ),
    _backend(
        "backend-takes-what-failed-for-captured",
        "GRAPH-017",
        (
            "            forward_fn()\n            if post",
            "            with suppress(Exception):\n                forward_fn()\n            if post",
        ),
        (
            _CAPTURED,
            "        output = None\n        with suppress(Exception):\n    " + _CAPTURED.replace("\n   ", "\n       "),
        ),
        ("from contextlib import contextmanager\n", "from contextlib import contextmanager, suppress\n"),
    ),
    _backend(
        "backend-keeps-what-it-has-cleaned-up",
        "GRAPH-018",
        (
            "        self._captured.clear()\n        self._pool = None",
            "        _kept.append(dict(self._captured))\n        self._captured.clear()\n        self._pool = None",
        ),
        ("class SimGraphBackend:\n", "_kept: list[Any] = []\n\n\nclass SimGraphBackend:\n"),
    ),
)

_OF_SCOPES = (
    _scope(
        "group-tells-another-stream-than-it-captures-on",
        "GRAPH-019",
        "with original(group, *args, **kwargs):",
        "    yield types.SimpleNamespace(stream=torch.sim.Stream())",
    ),
    _hook(
        "group-captures-on-a-stream-of-its-own",
        "GRAPH-020",
        f"{_GROUP}graph_capture",
        "group, graph_capture_context=None, stream=None",
        "return original(group, graph_capture_context)",
    ),
    _hook(
        "further-group-captures-on-a-stream-of-its-own",
        "GRAPH-021",
        f"{_GROUP}graph_capture",
        "group, graph_capture_context=None, stream=None",
        "return original(group, None, stream)",
    ),
    _scope(
        "group-stays-on-the-captures-stream-after-an-error",
        "GRAPH-022",
        "try:",
        "    with original(group, *args, **kwargs) as context:",
        "        yield context",
        "except Exception:",
        "    torch.sim.set_stream(context.stream)",
        "    raise",
    ),
    _scope(
        "group-leaves-its-communicator-enabled-after-an-error",
        "GRAPH-022",
        "try:",
        "    with original(group, *args, **kwargs) as context:",
        "        yield context",
        "except Exception:",
        "    group.pynccl_comm.disabled = False",
        "    raise",
    ),
    _scope(
        "group-swallows-what-a-capture-raises",
        "GRAPH-022",
        "with contextlib.suppress(Exception), original(group, *args, **kwargs) as context:",
        "    yield context",
    ),
    _scope(
        "group-hides-why-a-capture-failed",
        "GRAPH-022",
        "try:",
        "    with original(group, *args, **kwargs) as context:",
        "        yield context",
        "except Exception:",
        "    raise RuntimeError('the capture has failed') from None",
    ),
    Defect(
        "group-captures-without-waiting",
        "GRAPH-023",
        (
            *BEHIND,
            *_hook(
                "",
                "",
                f"{_GROUP}graph_capture",
                "group, graph_capture_context=None, stream=None",
                "if graph_capture_context is None:",
                "    stream = stream or torch.sim.Stream()",
                "    stream.wait_stream = lambda other: None",
                "return original(group, graph_capture_context, stream)",
            ).edits,
        ),
        of="sim",
        deadline=_DEADLINE,
    ),
    _scope(
        "group-forgets-the-custom-all-reduce",
        "GRAPH-024",
        "engine, group.ca_comm = group.ca_comm, None",
        "with original(group, *args, **kwargs) as context:",
        "    group.ca_comm = engine",
        "    yield context",
    ),
    _scope(
        "group-opens-the-custom-all-reduce-twice",
        "GRAPH-024",
        "with original(group, *args, **kwargs) as context:",
        "    with group.ca_comm.capture() if group.ca_comm else contextlib.nullcontext():",
        "        yield context",
    ),
    _hook(
        "capture-is-that-of-tensor-parallelism-alone",
        "GRAPH-025",
        f"{_MODULE}graph_capture",
        "stream=None",
        "from sglang.srt.distributed import parallel_state",
        "return parallel_state.get_tp_group().graph_capture(stream=stream)",
    ),
)

_OF_COLLECTIVES = (
    _hook(
        "warm-up-gives-what-is-in-memory",
        "GRAPH-026",
        ALL_REDUCE,
        "group, tensor",
        f"if group.pynccl_comm is None or group.pynccl_comm.disabled or {CAPTURING}:",
        "    return original(group, tensor)",
        "return torch.full_like(tensor, float('nan'))",
    ),
    _hook(
        "warm-up-gives-what-it-is-given",
        "GRAPH-026",
        ALL_REDUCE,
        "group, tensor",
        f"if group.pynccl_comm is None or group.pynccl_comm.disabled or {CAPTURING}:",
        "    return original(group, tensor)",
        "return tensor",
    ),
    _once("group-reduces-once-in-a-capture", "GRAPH-027", "all_reduce"),
    _graph(
        "graph-forgets-the-custom-all-reduce",
        "GRAPH-027",
        ("        self.function(*self.tensors)\n", "        pass\n"),
    ),
    _hook(
        "group-has-one-room-for-each-size-in-a-capture",
        "GRAPH-028",
        ALL_REDUCE,
        "group, tensor",
        "result = original(group, tensor)",
        f"if not {CAPTURING}:",
        "    return result",
        "room = kept.setdefault((result.shape, result.dtype), torch.empty_like(result))",
        "return room.copy_(result)",
    ),
    _graph(
        "graph-holds-few-collectives",
        "GRAPH-028",
        (
            "        self._steps.append(_Call(function, tensors))\n",
            "        if sum(isinstance(step, _Call) for step in self._steps) < 6:\n"
            "            self._steps.append(_Call(function, tensors))\n",
        ),
    ),
    _graph(
        "every-64th-replay-is-lost",
        "GRAPH-029",
        (
            _RUN,
            "            self._count = getattr(self, '_count', 0) + 1\n"
            + _RUN.replace("self._steps:", "self._steps if self._count % 64 else ():"),
        ),
    ),
    _graph("graphs-of-a-pool-serve-one-size", "GRAPH-030", *_NEWEST),
    _hook(
        "group-has-one-room-for-all-results",
        "GRAPH-031",
        ALL_REDUCE,
        "group, tensor",
        "result = original(group, tensor)",
        "room = kept.setdefault((result.shape, result.dtype, result.device), torch.empty_like(result))",
        "return room.copy_(result)",
    ),
    _graph(
        "graph-with-collectives-is-bound-to-its-stream",
        "GRAPH-032",
        (_JOINED, f"        self._home = stream.stream_id\n{_JOINED}"),
        (
            _RUN,
            "            for step in self._steps:\n"
            "                if isinstance(step, _Step) or current_stream().stream_id in (0, self._home):\n"
            "                    step.run()\n",
        ),
    ),
    Defect(
        "group-knows-the-buffers-of-the-last-capture-alone",
        "GRAPH-033",
        (
            *_hook(
                "",
                "",
                f"{_GROUP}graph_capture",
                _GIVEN,
                "from sglang_simulated import graphs",
                "graphs.registered.clear()",
                "return original(group, *args, **kwargs)",
            ).edits,
            Edit("graphs.py", _BASE, f"registered: list[Any] = []\n\n\n{_BASE}"),
            Edit(
                "graphs.py",
                "        self._steps.append(_Call(function, tensors))\n",
                "        self._steps.append(_Call(function, tensors))\n        registered.append(self._steps[-1])\n",
            ),
            Edit(
                "graphs.py",
                _RUN,
                "            for step in self._steps:\n"
                "                if not isinstance(step, _Call) or any(step is each for each in registered):\n"
                "                    step.run()\n",
            ),
        ),
        of="sim",
        deadline=_DEADLINE,
    ),
    _hook(
        "captured-sums-are-those-of-tensor-parallelism",
        "GRAPH-034",
        ALL_REDUCE,
        "group, tensor",
        "from sglang.srt.distributed import parallel_state",
        f"return original(parallel_state.get_tp_group() if {CAPTURING} else group, tensor)",
        world_size="4",
    ),
    _scope(
        "group-meets-the-others-after-an-error",
        "GRAPH-035",
        "try:",
        "    with original(group, *args, **kwargs) as context:",
        "        yield context",
        "except Exception:",
        "    torch.distributed.barrier(group=group.cpu_group)",
        "    raise",
    ),
    _graph(
        "graph-keeps-the-tensors-of-collectives",
        "GRAPH-036",
        (
            "        self._steps.append(_Call(function, tensors))\n",
            "        self._steps.append(_Call(function, tensors))\n        _kept.append(tensors)\n",
        ),
        (_BASE, f"_kept: list[Any] = []\n\n\n{_BASE}"),
    ),
    _graph(
        "captured-collective-opens-a-file",
        "GRAPH-039",
        (
            "        self.function(*self.tensors)\n",
            "        self.function(*self.tensors)\n        _opened.append(open('/dev/null'))\n",
        ),
        (_BASE, f"_opened: list[Any] = []\n\n\n{_BASE}"),
    ),
    _once("group-gathers-once-in-a-capture", "GRAPH-037", "all_gather"),
    _once("group-scatters-once-in-a-capture", "GRAPH-038", "reduce_scatter_tensor"),
)

DEFECTS = (*_OF_THE_DEVICE, *_OF_THE_BACKEND, *_OF_SCOPES, *_OF_COLLECTIVES)
