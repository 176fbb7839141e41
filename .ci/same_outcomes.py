"""Fail unless two certificates end every requirement alike.

A host-defect may stand against a pass, and a known difference against what it is known to be. What the real SGLang
cannot show here may be not run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sglang_conformance.certificate.record import read
from sglang_conformance.suite import areas

_OPERATOR = "SGLang has the operator for accelerators only and refuses host tensors; the reference serves both"
_UNEVEN = "SGLang has uneven collectives through PyNCCL alone; the reference goes through torch where there is none"
KNOWN = {
    ("COL-013", "pass", "unsupported"): _OPERATOR,
    ("COL-023", "pass", "unsupported"): _UNEVEN,
    ("COL-024", "pass", "unsupported"): _UNEVEN,
    ("COL-025", "pass", "unsupported"): _OPERATOR,
}
"""Where the reference (first) and the real SGLang differ, and why."""
SERVING = {("sim", "0.5.22"), ("sim", "0.5.23")}
"""The platforms and releases that the real SGLang serves models on here: see docs/host-defects.md."""
UNSERVED = ("JOUR-028", "JOUR-035")
"""What even there is not run: SGLang's own experts in torch, where ranks have experts of their own, and in graphs."""
PARTS = {"ARG-013", "FAC-002"} | {
    requirement
    for area in areas.SERVING | areas.LAUNCHING | areas.MAKING
    for check in areas.checks(area)
    for requirement in check.requirements
}
"""What elsewhere need not be run: it needs parts of the real SGLang that do not import here, or do not work; the first
two look a backend of the plugin's own up among its attention backends.
"""


def main(one: str, other: str) -> int:
    """Compare the certificates of two folders; returns the number of unexplained differences, at most 1 each."""
    certificates = [read(Path(folder) / "certificate.json") for folder in (one, other)]
    left, right = ({o.requirement: o.outcome for o in each.outcomes} for each in certificates)
    run = certificates[1].run
    serves = (run.platform.name, run.contract) in SERVING
    differences = [
        f"{name}: {left.get(name)} in {one}, {right.get(name)} in {other}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
        and "host-defect" not in (left.get(name), right.get(name))
        and (name, left.get(name), right.get(name)) not in KNOWN
        and not _unseen(name, str(right.get(name)), serves)
    ]
    print("\n".join(differences) or f"{len(left)} requirements end alike on both hosts")
    return bool(differences)


def _unseen(name: str, outcome: str, serves: bool) -> bool:
    """Whether that is an outcome of what need not be seen inside the real SGLang."""
    return outcome == "not-run" and name in (UNSERVED if serves else PARTS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
