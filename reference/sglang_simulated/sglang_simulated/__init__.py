"""An SGLang platform plugin for a simulated accelerator, the device type ``sim``.

SGLang imports this package merely to ask whether its hardware is there, in every process and for every user who
has it installed. So importing it must cost nothing and change nothing: no torch, no SGLang, no driver.
"""

from __future__ import annotations

__version__ = "0.1.0"

PLATFORM_CLASS = "sglang_simulated.platform.SimSRTPlatform"


def activate() -> str | None:
    """Say which platform class serves this machine; None where it has no simulated device.

    The entry point of group ``sglang.srt.platforms``. It only looks: no device is started, nothing is written.
    None means exactly one thing, "no such hardware here". A driver that is present but broken raises RuntimeError
    instead: SGLang turns None into "hardware not available", which would send the user looking for a loose card.
    """
    from sglang_simulated.hardware import detect

    return PLATFORM_CLASS if detect().devices > 0 else None
