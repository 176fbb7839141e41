"""Fail unless two certificates end every requirement alike.

A host-defect may stand against a pass, and a known difference against what it is known to be. What the real SGLang
cannot show here may be blocked or not run.
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
SERVING = {("sim", "0.5.23")}
"""The platforms and releases that the real SGLang serves models on here, on one rank: see docs/host-defects.md."""
ON_ONE_RANK = tuple(f"JOUR-{number:03}" for number in range(1, 11))
WHOLE = (*(f"JOUR-{number:03}" for number in range(50, 59)), "ARG-016")
"""What a whole server of SGLang's own is started for: only a package that is missing keeps it away."""
UNSEEN = ("JOUR-", *(f"FAC-{number:03}" for number in range(29, 53)))
"""What needs parts of the real SGLang that may not import here, or not work outside a server."""


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
    if name in WHOLE:
        return outcome == "not-run" and not serves
    return outcome in ("not-run", "blocked") and name.startswith(UNSEEN) and not (serves and name in ON_ONE_RANK)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
