"""Platforms that declare what they cannot do, or declare it where nobody reads it."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_CLASS = "    supported_quantization: list[str] = []\n"
_IMPORT = "from sglang.srt.platforms.interface import SRTPlatform\n"
_STRUCT = "from sglang.srt.platforms.interface import PlatformCapabilities, SRTPlatform\n"
_SIMS = '{"graph_capture": True}'


def _on_platform(text: str) -> Edit:
    """Something more in Acme's platform class."""
    return Edit("platform.py", _CLASS, _CLASS + text)


def _declares(value: str) -> tuple[Edit, ...]:
    """Acme with capabilities of its own."""
    return (Edit("platform.py", _IMPORT, _STRUCT), _on_platform(f"    capabilities = {value}\n"))


DEFECTS = (
    Defect("capabilities-are-a-dict", "CAP-001", (_on_platform("    capabilities = {'graph_capture': False}\n"),)),
    Defect("capabilities-are-the-class", "CAP-001", _declares("PlatformCapabilities")),
    Defect("declared-capability-is-a-text", "CAP-002", _declares('PlatformCapabilities(supports_pynccl="no")')),
    Defect("capability-is-a-function", "CAP-002", _declares("PlatformCapabilities(supports_pynccl=lambda: False)")),
    Defect(
        "capabilities-grow-with-the-device",
        "CAP-003",
        (
            Edit("platform.py", _IMPORT, _STRUCT),
            Edit(
                "platform.py",
                "    def init_backend(self) -> None:\n",
                "    def init_backend(self) -> None:\n"
                "        self.capabilities = PlatformCapabilities(hicache_device_kernels=True)\n",
            ),
        ),
    ),
    Defect(
        "device-module-cannot-tell-of-a-capture",
        "CAP-004",
        (
            Edit(
                "device_module.py",
                "from sglang_simulated.graphs import SimGraph, graph, graph_pool_handle, is_current_stream_capturing\n",
                "from sglang_simulated.graphs import SimGraph, graph, graph_pool_handle\n",
            ),
            Edit("device_module.py", '    "is_current_stream_capturing",\n', ""),
        ),
        of="sim",
    ),
    Defect(
        "device-module-says-always-capturing",
        "CAP-004",
        (
            Edit(
                "device_module.py",
                "from sglang_simulated.graphs import SimGraph, graph, graph_pool_handle, is_current_stream_capturing\n",
                "from sglang_simulated.graphs import SimGraph, graph, graph_pool_handle\n",
            ),
            Edit("device_module.py", "", "\n\ndef is_current_stream_capturing() -> bool:\n    return True\n"),
        ),
        of="sim",
    ),
    Defect(
        "graph-capture-without-a-runner",
        "CAP-005",
        (
            Edit(
                "platform.py",
                "        from sglang_simulated.graph_runner import SimGraphRunner\n\n        return SimGraphRunner\n",
                "        return None\n",
            ),
        ),
        of="sim",
    ),
    Defect(
        "graph-flag-without-a-runner",
        "CAP-005",
        (
            Edit("platform.py", "    def get_graph_runner_cls(self)", "    def get_graph_runner(self)"),
            _on_platform("\n    def support_cuda_graph(self) -> bool:\n        return True\n"),
        ),
        release="0.5.11",
    ),
    Defect(
        "piecewise-declared-without-a-backend",
        "CAP-006",
        (Edit("releases.py", _SIMS, '{"graph_capture": True, "piecewise_graph": True}'),),
        of="sim",
    ),
    Defect(
        "piecewise-flag-without-a-backend",
        "CAP-007",
        (
            Edit(
                "releases.py",
                '        """Whether prefill can be captured in pieces; not here."""\n        return False\n',
                "        return True\n",
            ),
        ),
        of="sim",
        release="0.5.11",
    ),
    Defect(
        "graph-flag-raises",
        "CAP-009",
        (_on_platform("\n    def support_piecewise_cuda_graph(self) -> bool:\n        raise NotImplementedError\n"),),
        release="0.5.11",
    ),
    Defect(
        "speculative-algorithms-from-a-table",
        "CAP-010",
        (
            _on_platform(
                "\n    def supports_speculative_algorithm(self, algorithm: str) -> bool:\n"
                '        return {"EAGLE": True, "EAGLE3": True, "NGRAM": False}[algorithm]\n'
            ),
        ),
        also=("CAP-012",),
    ),
    Defect(
        "draft-backends-from-a-table",
        "CAP-011",
        (
            _on_platform(
                "\n    def supports_speculative_draft_attention_backend(self, algorithm: str, backend: str) -> bool:\n"
                '        return {"triton": True, "torch_native": True}[backend]\n'
            ),
        ),
    ),
    Defect(
        "default-draft-backend-is-not-supported",
        "CAP-012",
        (
            _on_platform(
                "\n    def supports_speculative_algorithm(self, algorithm: str) -> bool:\n"
                '        return algorithm == "DFLASH"\n'
                "\n    def supports_speculative_draft_attention_backend(self, algorithm: str, backend: str) -> bool:\n"
                '        return backend == "triton"\n'
                "\n    def get_default_speculative_draft_attention_backend(self, algorithm: str) -> str:\n"
                '        return "torch_native"\n'
            ),
        ),
    ),
    Defect(
        "speculation-without-a-draft-backend",
        "CAP-012",
        (
            _on_platform(
                "\n    def supports_speculative_algorithm(self, algorithm: str) -> bool:\n        return True\n"
            ),
        ),
    ),
    Defect(
        "mamba-buffer-answers-none",
        "CAP-013",
        (_on_platform("\n    def support_mamba_cache_extra_buffer(self) -> bool:\n        return None\n"),),
    ),
    Defect(
        "supported-quantization-is-a-text",
        "CAP-014",
        (Edit("platform.py", "    supported_quantization: list[str] = []", '    supported_quantization = "fp8"'),),
    ),
    Defect("pynccl-bound-to-the-host", "CAP-015", _declares("PlatformCapabilities(supports_pynccl=True)")),
    Defect(
        "cache-kernels-that-nobody-installed", "CAP-016", _declares("PlatformCapabilities(hicache_device_kernels=True)")
    ),
)
