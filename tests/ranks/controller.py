"""A controller in a process of its own: ``python -m ranks.controller HOST:PORT BEAT LIMIT light|torch``.

Tells its address, and once the ranks have come their hosts and the store's host; then runs the checks that it is sent,
``{"check", "arguments", "size", "seconds"}`` a line, and answers each with a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from ranks.agents import LIGHT, WITH_TORCH
from sglang_conformance.probes import client
from sglang_conformance.probes.result import ZygoteError
from sglang_conformance.ranks.cluster import Cluster, Patience
from sglang_conformance.ranks.group import GroupError, Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.secret import take_secret
from sglang_conformance.ranks.store import Keeper


def told(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def run(pool: Pool, request: dict[str, Any]) -> None:
    started = time.monotonic()
    try:
        report = pool.run(request["check"], request["arguments"], size=request["size"], seconds=request["seconds"])
    except (GroupError, ZygoteError) as error:
        told(error=str(error), seconds=time.monotonic() - started)
        return
    told(
        values=[rank.value for rank in report.ranks],
        summary=report.summary(),
        kinds={rank.rank: rank.failure.kind for rank in report.failures if rank.failure},
        seconds=report.seconds,
    )


def main(at: str, beat: str, limit: str, kind: str) -> None:
    cluster = Cluster(at, take_secret(None, os.environ), Patience(float(beat), float(limit)))
    told(address=cluster.address)
    cluster.wait(60)
    if kind == "light":
        pool = cluster.pool([], Setup(watched=False), LIGHT)
        told(hosts=cluster.hosts, devices=cluster.devices, store="")
    else:
        zygote = client.start(WITH_TORCH)
        keeper = Keeper(client.connect(zygote.address), host=cluster.host)
        pool = cluster.pool([], Setup("ranks.bodies:join", {"store": keeper.address}), WITH_TORCH)
        told(hosts=cluster.hosts, devices=cluster.devices, store=keeper.address)
    for line in sys.stdin:
        run(pool, json.loads(line))
    pool.close()
    if kind != "light":
        keeper.close()
        zygote.close()
    cluster.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
