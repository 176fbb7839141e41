"""Fail unless two certificates end every requirement alike.

A host-defect may stand against a pass, and a known difference against what it is known to be.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sglang_conformance.certificate.record import read

_OPERATOR = "SGLang has the operator for accelerators only and refuses host tensors; the reference serves both"
_UNEVEN = "SGLang has uneven collectives through PyNCCL alone; the reference goes through torch where there is none"
KNOWN = {
    ("COL-013", "pass", "unsupported"): _OPERATOR,
    ("COL-023", "pass", "unsupported"): _UNEVEN,
    ("COL-024", "pass", "unsupported"): _UNEVEN,
    ("COL-025", "pass", "unsupported"): _OPERATOR,
}
"""Where the reference (first) and the real SGLang differ, and why."""


def main(one: str, other: str) -> int:
    """Compare the certificates of two folders; returns the number of unexplained differences, at most 1 each."""
    left, right = (
        {o.requirement: o.outcome for o in read(Path(folder) / "certificate.json").outcomes} for folder in (one, other)
    )
    differences = [
        f"{name}: {left.get(name)} in {one}, {right.get(name)} in {other}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
        and "host-defect" not in (left.get(name), right.get(name))
        and (name, left.get(name), right.get(name)) not in KNOWN
    ]
    print("\n".join(differences) or f"{len(left)} requirements end alike on both hosts")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
