"""Other right factories."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_RUNNER = "        from sglang_simulated.graph_runner import SimGraphRunner\n\n        return SimGraphRunner\n"
_ASKED_OF_RUNNERS = ("CAP-005", "FAC-003", "FAC-004", "FAC-021", "FAC-022")
_CALLED = "SGLang only calls what it gets (0.5.23, cuda_graph_setup.py:786)"
_BOTH = "    can_run_graph = can_run  # what 0.5.23 calls; 0.5.11 calls can_run\n"
_SIZES = "        self.capture_bs: list[int] = []\n"
_ALLOCATOR = (
    "        from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator\n\n"
    "        return PagedTokenToKVPoolAllocator\n"
)
_CLASS = "    supported_quantization: list[str] = []\n"


def _runner(*lines: str) -> Edit:
    body = "".join(f"        {line}\n" for line in ("from sglang_simulated.graph_runner import SimGraphRunner", *lines))
    return Edit("platform.py", _RUNNER, body)


VARIANTS = (
    Variant(
        "graph-runner-from-a-function",
        _ASKED_OF_RUNNERS,
        (_runner("return lambda model_runner, **options: SimGraphRunner(model_runner, **options)"),),
        _CALLED,
        of="sim",
    ),
    Variant(
        "graph-runner-partly-applied",
        _ASKED_OF_RUNNERS,
        (_runner("import functools", "return functools.partial(SimGraphRunner, speculative_num_steps=1)"),),
        _CALLED,
        of="sim",
    ),
    Variant(
        "graph-runner-class-made-in-each-call",
        (*_ASKED_OF_RUNNERS, "FAC-016"),
        (_runner('return type("Runner", (SimGraphRunner,), {})'),),
        "each runner is asked for once, and nothing compares their classes",
        of="sim",
    ),
    Variant(
        "graph-runner-binds-its-answer",
        ("FAC-021",),
        (
            Edit("graph_runner.py", _BOTH, ""),
            Edit("graph_runner.py", _SIZES, f"{_SIZES}        self.can_run_graph = self.can_run\n"),
        ),
        "SGLang asks the object, not its class",
        of="sim",
    ),
    Variant(
        "graph-runner-set-up-by-a-function",
        ("FAC-021", "FAC-022"),
        (
            Edit("graph_runner.py", _BOTH, ""),
            Edit(
                "graph_runner.py", _SIZES, "        from sglang_simulated import setting\n\n        setting.up(self)\n"
            ),
            Edit("graph_runner.py", "        self.capture_bs = sorted(self._inputs)\n", ""),
            Edit(
                "setting.py",
                "",
                "def up(runner):\n    runner.capture_bs = []\n    runner.can_run_graph = runner.can_run\n",
            ),
        ),
        "SGLang asks the object, not its class",
        of="sim",
    ),
    Variant(
        "compile-modes-refused",
        ("FAC-010", "FAC-018"),
        (
            Edit(
                "platform.py",
                '        return "eager"\n',
                '        if mode is not None:\n            raise ValueError(mode)\n        return "eager"\n',
            ),
        ),
        "no call in core that reaches an out-of-tree platform passes a mode",
    ),
    Variant(
        "compile-backend-registered-with-the-device",
        ("FAC-010", "FAC-018"),
        (
            Edit("platform.py", '        return "eager"\n', '        return "acme_compiler"\n'),
            Edit(
                "platform.py",
                "        torch.set_flush_denormal(False)\n",
                "        import torch._dynamo\n\n"
                '        torch._dynamo.register_backend(lambda graph, inputs: graph, name="acme_compiler")\n',
            ),
        ),
        "torch knows backends that are registered with it",
    ),
    Variant(
        "allocator-with-names",
        ("FAC-009", "FAC-024"),
        (
            Edit("platform.py", _ALLOCATOR, "        return AcmeAllocator\n"),
            Edit(
                "platform.py",
                "",
                "\n\nclass AcmeAllocator:\n"
                "    def __init__(self, size, *, page_size, dtype, device, kvcache, need_sort):\n"
                "        self.alloc = self.alloc_extend = self.alloc_decode = self.free = print\n",
            ),
        ),
        "the KV cache's allocator is made by name; only sliding windows give positions (0.5.23, swa.py:85)",
    ),
    Variant(
        "speculative-worker-of-any-keywords",
        ("FAC-012",),
        (
            Edit(
                "platform.py",
                _CLASS,
                f"{_CLASS}\n    def get_speculative_worker_cls(self, algorithm: str) -> Any:\n"
                "        return lambda **options: options\n",
            ),
        ),
        "the scheduler only calls it (0.5.23, scheduler.py:1064)",
    ),
)
