"""Factories that hand out something of the wrong kind."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_CLASS = "    supported_quantization: list[str] = []\n"
_ATTENTION = '        return "torch_native"\n'
_POOL = "    def get_kv_pool_cls(self, *, kind: str) -> None:\n        return None\n"
_MHA = "        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool\n\n        return MHATokenToKVPool\n"
_ALLOCATOR = (
    "        from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator\n\n"
    "        return PagedTokenToKVPoolAllocator\n"
)
_RUNNER = "        from sglang_simulated.graph_runner import SimGraphRunner\n\n        return SimGraphRunner\n"
_PIECEWISE = '''\
        """None: capturing prefill in pieces is not declared, so SGLang does not come here."""
        return None
'''
_OTHERS = "page_size, dtype, device, kvcache, need_sort"
_PARAMETERS = f"size, {_OTHERS}"
_METHODS = ("alloc", "alloc_extend", "alloc_decode", "free")
_ASKED = "    def can_run(self, forward_batch: Any) -> bool:\n"
_BOTH = "    can_run_graph = can_run  # what 0.5.23 calls; 0.5.11 calls can_run\n"
_EAGER = '        return "eager"\n'


def _on_platform(text: str) -> Edit:
    """Something more in Acme's platform class."""
    return Edit("platform.py", _CLASS, _CLASS + text)


def _method(name: str, parameters: str, *body: str) -> Edit:
    """One more method in Acme's platform class."""
    lines = "".join(f"        {line}\n" for line in body)
    return _on_platform(f"\n    def {name}(self{parameters}) -> Any:\n{lines}")


def _allocator(answer: str, parameters: str, *methods: str) -> tuple[Edit, ...]:
    """Acme with an allocator of its own, made from the parameters, with the methods."""
    lines = "".join(f"    def {name}(self, *args):\n        pass\n" for name in methods)
    return (
        Edit("platform.py", _ALLOCATOR, f"        return {answer}\n"),
        Edit(
            "platform.py",
            "",
            f"\n\nclass AcmeAllocator:\n    def __init__(self, {parameters}):\n        pass\n{lines}",
        ),
    )


DEFECTS = (
    Defect(
        "attention-backend-is-a-class",
        "FAC-001",
        (Edit("platform.py", _ATTENTION, "        return AcmeGraphRunner\n"),),
    ),
    Defect(
        "attention-backend-not-overridden",
        "FAC-001",
        (Edit("platform.py", "    def get_default_attention_backend(self)", "    def get_attention_backend(self)"),),
    ),
    Defect(
        "graph-runner-is-a-path",
        "FAC-003",
        (Edit("platform.py", _RUNNER, '        return "sim.SimGraphRunner"\n'),),
        of="sim",
        also=("CAP-005",),
    ),
    Defect(
        "graph-runner-wants-more",
        "FAC-003",
        (
            Edit(
                "graph_runner.py",
                "        model_runner: Any,\n        *,\n        attn_backend: Any = None,\n",
                "        model_runner: Any,\n        stream: Any,\n        *,\n        attn_backend: Any = None,\n",
            ),
        ),
        of="sim",
    ),
    Defect(
        "graph-runner-knows-no-speculation",
        "FAC-004",
        (
            Edit(
                "graph_runner.py",
                "        speculative_num_steps: int | None = None,\n",
                "",
            ),
            Edit(
                "graph_runner.py",
                "        self.speculative_num_steps = speculative_num_steps\n",
                "",
            ),
        ),
        of="sim",
    ),
    Defect(
        "graph-backend-knows-no-memory-saver",
        "FAC-005",
        (Edit("graph_runner.py", "runner: Any, *, enable_memory_saver: bool = False)", "runner: Any)"),),
        of="sim",
    ),
    Defect(
        "piecewise-backend-takes-one-argument",
        "FAC-006",
        (
            Edit(
                "platform.py",
                _PIECEWISE,
                "        from sglang_simulated.graph_runner import SimGraphBackend\n\n        return SimGraphBackend\n",
            ),
        ),
        of="sim",
    ),
    Defect(
        "kv-pool-is-a-path",
        "FAC-007",
        (Edit("platform.py", _POOL, _POOL.replace("return None", 'return "acme.pools.AcmePool"')),),
    ),
    Defect(
        "kv-pool-of-one-kind-only",
        "FAC-007",
        (Edit("platform.py", _POOL, _POOL.replace("return None", 'return {"mha": None, "mla": None}[kind]')),),
    ),
    Defect(
        "kv-pool-under-a-name-sglang-lacks",
        "FAC-007",
        (
            Edit(
                "platform.py",
                _POOL,
                _POOL.replace("return None", "from acme.pools import AcmePool\n\n        return AcmePool"),
            ),
        ),
    ),
    Defect(
        "mha-pool-left-to-sglang",
        "FAC-008",
        (Edit("platform.py", "    def get_mha_kv_pool_cls(self)", "    def get_mha_pool_cls(self)"),),
        release="0.5.11",
    ),
    Defect(
        "mha-pool-is-an-instance",
        "FAC-008",
        (Edit("platform.py", _MHA, "        return AcmePiecewiseBackend()\n"),),
        release="0.5.11",
    ),
    Defect(
        "allocator-is-a-path",
        "FAC-009",
        (Edit("platform.py", _ALLOCATOR, '        return "acme.pools.AcmeAllocator"\n'),),
    ),
    Defect(
        "allocator-takes-no-names",
        "FAC-009",
        (Edit("platform.py", _ALLOCATOR, "        return AcmePiecewiseBackend\n"),),
    ),
    Defect(
        "allocator-of-none-where-one-is-needed",
        "FAC-009",
        (Edit("platform.py", _ALLOCATOR, "        return None\n"),),
        release="0.5.11",
    ),
    Defect("compile-backend-is-none", "FAC-010", (Edit("platform.py", _EAGER, "        return None\n"),)),
    Defect(
        "compile-modes-from-a-table",
        "FAC-017",
        (Edit("platform.py", _EAGER, '        return {None: "eager", "reduce-overhead": "acme"}[mode]\n'),),
    ),
    Defect(
        "quantization-from-a-table",
        "FAC-011",
        (_method("get_quantization_config", ", quantization: str", 'return {"fp8": None}[quantization]'),),
    ),
    Defect(
        "quantization-config-is-an-instance",
        "FAC-011",
        (
            _method(
                "get_quantization_config",
                ", quantization: str",
                'return AcmePiecewiseBackend() if quantization == "fp8" else None',
            ),
        ),
    ),
    Defect(
        "speculative-worker-is-a-path",
        "FAC-012",
        (
            _method(
                "get_speculative_worker_cls", ", algorithm: str", 'return f"acme.workers.{algorithm.title()}Worker"'
            ),
        ),
    ),
    Defect(
        "speculative-graph-runner-is-an-instance",
        "FAC-013",
        (
            Edit(
                "platform.py",
                "    def get_graph_runner_cls(self)",
                "    def get_speculative_graph_runner_cls(self, algorithm: str, phase: str) -> Any:\n"
                '        return object() if phase == "draft_extend" else None\n\n'
                "    def get_graph_runner_cls(self)",
            ),
        ),
        of="sim",
    ),
    Defect(
        "cache-locations-already-computed",
        "FAC-014",
        (_method("get_speculative_cache_locs_fn", "", "return torch.zeros(4, dtype=torch.int64)"),),
    ),
    Defect("dispatch-key-has-a-dash", "FAC-015", (_method("get_dispatch_key_name", "", 'return "acme-one"'),)),
    Defect("dispatch-key-is-empty", "FAC-015", (_method("get_dispatch_key_name", "", 'return ""'),)),
    Defect(
        "allocator-class-made-in-each-call",
        "FAC-016",
        _allocator("type('Allocator', (AcmeAllocator,), {})", _PARAMETERS, *_METHODS),
    ),
    Defect("allocator-by-name-only", "FAC-019", _allocator("AcmeAllocator", "size, *, " + _OTHERS, *_METHODS)),
    Defect("allocator-that-is-only-made", "FAC-024", _allocator("AcmeAllocator", _PARAMETERS)),
    Defect("allocator-that-never-frees", "FAC-024", _allocator("AcmeAllocator", _PARAMETERS, *_METHODS[:-1])),
    Defect(
        "compile-backend-unknown-to-torch",
        "FAC-018",
        (Edit("platform.py", _EAGER, '        return "acme_inductor"\n'),),
    ),
    Defect(
        "graph-runner-of-a-later-sglang",
        "FAC-020",
        (
            Edit("graph_runner.py", _ASKED, _ASKED.replace("can_run", "can_run_graph")),
            Edit("graph_runner.py", _BOTH, ""),
        ),
        of="sim",
        release="0.5.11",
    ),
    Defect("graph-runner-of-an-earlier-sglang", "FAC-021", (Edit("graph_runner.py", _BOTH, ""),), of="sim"),
    Defect(
        "graph-runner-hides-its-batches",
        "FAC-022",
        (
            Edit("graph_runner.py", "        self.capture_bs: list[int] = []\n", ""),
            Edit("graph_runner.py", "        self.capture_bs = sorted(self._inputs)\n", ""),
        ),
        of="sim",
    ),
    Defect(
        "graph-backend-without-a-replay",
        "FAC-023",
        (Edit("graph_runner.py", "    def replay(self, shape_key", "    def play(self, shape_key"),),
        of="sim",
    ),
    Defect(
        "kv-pool-of-the-vendors-alone",
        "FAC-007",
        (
            Edit("platform.py", _POOL, _POOL.replace("return None", "return AcmePool")),
            Edit("platform.py", "", "\n\nclass AcmePool:\n    pass\n"),
        ),
    ),
    Defect(
        "quantization-config-of-another-kind",
        "FAC-025",
        (
            _method(
                "get_quantization_config",
                ", quantization: str",
                'return AcmePiecewiseBackend if quantization == "fp8" else None',
            ),
        ),
    ),
    Defect(
        "quantization-listed-and-refused",
        "FAC-026",
        (
            Edit(
                "platform.py",
                _CLASS,
                '    supported_quantization: list[str] = ["fp8"]\n\n'
                "    def get_quantization_config(self, quantization: str) -> Any:\n"
                '        raise ValueError(f"no {quantization}")\n',
            ),
        ),
    ),
    Defect(
        "speculative-worker-takes-nothing",
        "FAC-012",
        (
            _method("get_speculative_worker_cls", ", algorithm: str", "return AcmeWorker"),
            Edit("platform.py", "", "\n\nclass AcmeWorker:\n    pass\n"),
        ),
    ),
    Defect(
        "cache-locations-of-nothing",
        "FAC-014",
        (_method("get_speculative_cache_locs_fn", "", "return lambda: torch.zeros(4, dtype=torch.int64)"),),
    ),
    Defect("dispatch-key-of-another-device", "FAC-027", (_method("get_dispatch_key_name", "", 'return "cuda"'),)),
    Defect(
        "triton-attention-without-triton", "FAC-028", (Edit("platform.py", _ATTENTION, '        return "triton"\n'),)
    ),
)
