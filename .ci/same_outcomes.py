"""Fail unless two certificates end every requirement alike; a host-defect may stand against a pass."""

from __future__ import annotations

import sys
from pathlib import Path

from sglang_conformance.certificate.record import read


def main(one: str, other: str) -> int:
    """Compare the certificates of two folders; returns the number of unexplained differences, at most 1 each."""
    left, right = (
        {o.requirement: o.outcome for o in read(Path(folder) / "certificate.json").outcomes} for folder in (one, other)
    )
    differences = [
        f"{name}: {left.get(name)} in {one}, {right.get(name)} in {other}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name) and "host-defect" not in (left.get(name), right.get(name))
    ]
    print("\n".join(differences) or f"{len(left)} requirements end alike on both hosts")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
