"""Other right capabilities."""

from __future__ import annotations

from zoo.workshop import Edit, Variant

_CLASS = "    supported_quantization: list[str] = []\n"
_IMPORT = "from sglang.srt.platforms.interface import SRTPlatform\n"
_STRUCT = "from sglang.srt.platforms.interface import PlatformCapabilities, SRTPlatform\n"

VARIANTS = (
    Variant(
        "triton-by-a-stand-in",
        ("CAP-008",),
        (
            Edit("platform.py", _IMPORT, _STRUCT),
            Edit("platform.py", _CLASS, f"{_CLASS}    capabilities = PlatformCapabilities(supports_triton=True)\n"),
            Edit("platform.py", "", '\n\nimport sys, types\n\nsys.modules["triton"] = types.ModuleType("triton")\n'),
        ),
        "SGLang imports triton by its name, whoever put it there",
    ),
)
