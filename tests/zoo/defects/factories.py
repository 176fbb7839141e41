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
_EAGER = '        return "eager"\n'


def _on_platform(text: str) -> Edit:
    """Something more in Acme's platform class."""
    return Edit("platform.py", _CLASS, _CLASS + text)


def _method(name: str, parameters: str, *body: str) -> Edit:
    """One more method in Acme's platform class."""
    lines = "".join(f"        {line}\n" for line in body)
    return _on_platform(f"\n    def {name}(self{parameters}) -> Any:\n{lines}")


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
        "allocator-takes-a-page-alone",
        "FAC-009",
        (Edit("platform.py", _ALLOCATOR, "        return AcmeGraphRunner\n"),),
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
        "FAC-010",
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
        "class-made-in-each-call",
        "FAC-016",
        (
            Edit(
                "platform.py",
                "        return AcmeGraphRunner\n",
                '        return type("Runner", (AcmeGraphRunner,), {})\n',
            ),
        ),
    ),
)
