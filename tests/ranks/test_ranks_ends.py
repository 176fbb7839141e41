"""What stays behind of ranks when their controller ends, however it ends: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from probes.processes import MARK, comes_true, marked

TESTS = Path(__file__).parents[1]
CONTROLLER = textwrap.dedent(
    """
    import sys
    from sglang_conformance.probes import client
    from sglang_conformance.ranks.group import Setup
    from sglang_conformance.ranks.pool import Pool
    from sglang_conformance.ranks.store import Keeper

    zygote = client.start(("torch", "torch.distributed", "ranks.bodies", "sglang_conformance.ranks.rank"))
    warm = client.connect(zygote.address)
    keeper = Keeper(warm)
    pool = Pool(warm, Setup("ranks.bodies:join", {"store": keeper.address}))
    print(pool.run("ranks.bodies:total", size=2).values, flush=True)
    if sys.argv[1] == "busy":
        pool.run("ranks.bodies:hangs_on", {"number": 1}, size=2, seconds=600)
    sys.stdin.read()
    """
)


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_the_controller(state: str, number: signal.Signals, tmp_path: Path) -> None:
    mark = f"ranks-{state}-{number}-{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": str(TESTS), MARK: mark, "TMPDIR": str(tmp_path)}
    before = set(os.listdir("/dev/shm"))
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, state],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"(3.0, 3.0)\n"
        assert len(marked(mark)) >= 6  # the controller, the zygote, its server, the store and two ranks
        process.send_signal(number)
        process.wait(20)
    assert comes_true(lambda: not marked(mark)), marked(mark)
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/dev/shm")) <= before
