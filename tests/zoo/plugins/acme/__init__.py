"""A minimal right plugin: an out-of-tree platform whose device computes on the CPU.

The zoo's defects are small changes to this package. It is right under SGLang 0.5.11 and 0.5.23 alike.
"""

from __future__ import annotations

import os


def activate() -> str | None:
    """The platform's class, or None where no Acme device is present."""
    if int(os.environ.get("ACME_DEVICES", "1")) == 0:
        return None
    return "acme.platform.AcmePlatform"
