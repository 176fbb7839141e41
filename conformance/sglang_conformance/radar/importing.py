"""``--import``: the plugin imported in probes, one for each release, for what only running it tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..contract.model import Contract
from ..probes import client
from ..probes.result import Result, ZygoteError
from ..probes.world import World
from .plugin import GROUPS, Plugin, PluginError
from .reading.seen import Live, LiveHook

JOB = f"{__package__}.alive:look"
DEADLINE = 60.0
"""Seconds that the plugin may take to be imported, for each release."""


def look(plugin: Plugin, contracts: Iterable[Contract], deadline: float = DEADLINE) -> Mapping[str, Live]:
    """What the plugin gives and registers in each release, by the release; no process is left behind.

    Raises PluginError where no probe can be had.
    """
    points = [(point.group, point.name, point.value) for point in plugin.entry_points if point.group in GROUPS]
    world = World({"SGLANG_PLATFORM": None, "SGLANG_PLUGINS": None}, (str(plugin.path),) if plugin.path else ())
    zygote = client.start(("torch", "numpy"))
    try:
        warm = client.connect(zygote.address)
        found = {}
        for contract in contracts:
            arguments = {"table": contract.to_json(), "points": points}
            found[contract.release] = _live(warm.run(JOB, arguments, world=world, deadline=deadline), contract.release)
        return found
    except ZygoteError as error:
        raise PluginError(f"--import: the plugin cannot be imported here: {error}") from error
    finally:
        zygote.close()


def _live(result: Result, release: str) -> Live:
    if result.failure is not None:
        failure = result.failure
        return Live(
            failed=(f"importing it for {release} failed: {failure.type}: {failure.message}".partition("\n")[0],)
        )
    value = result.value
    hooks = tuple(LiveHook(*hook) for hook in value["hooks"])
    failed = tuple(f"importing it for {release}, {line}" for line in value["failed"])
    return Live(tuple(value["classes"]), hooks, failed)
