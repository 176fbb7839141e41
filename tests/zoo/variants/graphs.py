"""Right graphs, made otherwise."""

from __future__ import annotations

from sglang_conformance.requirements import loader
from zoo.defects.graphs import ALL_REDUCE, BEHIND, CAPTURING
from zoo.defects.pynccl import _hook
from zoo.workshop import Edit, Variant

ALL = tuple(r.id for r in loader.load() if r.area == "GRAPH")

VARIANTS = (
    Variant(
        "streams-that-are-behind",
        ALL,
        BEHIND,
        "what a stream is given is done some time: who reads it on another stream, or on the host, waits for it",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "backend-without-warm-ups-with-outputs-of-its-own",
        ALL,
        (
            Edit("graph_runner.py", "        for _ in range(WARM_UPS):\n", "        for _ in ():\n"),
            Edit(
                "graph_runner.py",
                "        captured.replay()\n        return output\n",
                "        captured.replay()\n"
                "        return tuple(each + 0 for each in output) if isinstance(output, tuple) else output + 0\n",
            ),
        ),
        "the interface of backends asks for the output of a shape, and neither for warm-ups nor for one memory",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "graphs-without-a-backend",
        ALL,
        (
            Edit("device_module.py", "Graph = SimGraph\n", "SIMGraph = SimGraph\n"),
            Edit("device_module.py", '    "Graph",\n', '    "SIMGraph",\n'),
            Edit(
                "platform.py",
                "        from sglang_simulated.graph_runner import SimGraphBackend\n\n        return SimGraphBackend\n",
                "        return None\n",
            ),
        ),
        "SGLang's runners go by their own backend where the platform has none, and a vendor's runner by torch's graphs",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "graphs-of-computation-alone",
        ALL,
        (
            Edit("hardware.py", 'return _installed("sglang_host_nccl")', "return False"),
            Edit("hardware.py", 'return _installed("sglang_host_all_reduce")', "return False"),
        ),
        "without an engine SGLang goes by torch.distributed, whose backend may say that it cannot be captured",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "graphs-with-pynccl-alone",
        ALL,
        (Edit("hardware.py", 'return _installed("sglang_host_all_reduce")', "return False"),),
        "custom all-reduce is an engine that a platform may do without",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "graphs-with-custom-all-reduce-alone",
        ALL,
        (Edit("hardware.py", 'return _installed("sglang_host_nccl")', "return False"),),
        "PyNCCL is an engine that a platform may do without; what custom all-reduce leaves cannot be captured then",
        of="sim",
        deadline=20.0,
    ),
    Variant(
        "warm-ups-give-zeros",
        ALL,
        _hook(
            "",
            "",
            ALL_REDUCE,
            "group, tensor",
            f"if group.pynccl_comm is None or group.pynccl_comm.disabled or {CAPTURING}:",
            "    return original(group, tensor)",
            "return torch.zeros_like(tensor)",
        ).edits,
        "SGLang's own first custom all-reduce does so (0.5.23, custom_all_reduce.py)",
        of="sim",
        deadline=20.0,
    ),
)
