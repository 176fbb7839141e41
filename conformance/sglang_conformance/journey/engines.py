"""SGLang's Engine, by host: how one is started, asked, and ended, each within a time, and how its failure is heard.

The reference's has deadlines of its own, and raises what its workers fail with. The real one waits without end, hears
of a failure by SIGQUIT, upon which it kills its own process, and ends its workers by SIGKILL (0.5.11 and 0.5.23,
srt/entrypoints/engine.py, srt/managers/tokenizer_manager.py).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
import signal
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn, Protocol

from ..hosts import serving, serving_installed
from ..probes.server import end_orphans
from .attended import Attended, Hidden

MODULE = "sglang.srt.entrypoints.engine"
_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")
_OTHERS = 10_000
"""Below stand the ports that services are known by."""
_TRIES = 20
_FAILED = "a process of the server has failed, which the launching process is told by SIGQUIT"


class ServerFailed(RuntimeError):
    """A process of the server has told that it failed."""


def load(vendors: Collection[str]) -> None:
    """Import what starts a server, which brings the platform to life.

    Raises NotServed where SGLang lacks something here, and what the vendor's code, in these packages, raises meanwhile.
    """
    try:
        importlib.import_module(MODULE)
    except Exception as error:
        frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
        if not {str(name).partition(".")[0] for name in frames} & set(vendors):
            serving.load(MODULE)
        raise


class Host(Protocol):
    """What is different between the hosts.

    ``leaves`` is what may be left, by the kinds of :mod:`.left`, through its own way to end a server; ``threads`` is
    how the names of threads begin that it leaves.
    """

    leaves: Collection[str]
    threads: Sequence[str]

    def asked(self) -> Mapping[str, Any]:
        """The arguments that a start wants beside the user's."""

    def start(self, kind: Any, arguments: Any, seam: Attended, deadline: float) -> Any:
        """An engine of that kind, whose schedulers are attended; whatever is begun and fails leaves no process."""

    def within(self, engine: Any, deadline: float) -> contextlib.AbstractContextManager[None]:
        """Ask the engine for something, inside."""

    def exits(self, before: Sequence[int | None], after: Sequence[int | None]) -> list[int | None]:
        """How the processes ended, given their exit codes before it was to end them, and after."""


class Reference:
    """The reference's engine."""

    leaves: Collection[str] = ()
    threads: Sequence[str] = ()

    def asked(self) -> Mapping[str, Any]:
        """It needs none."""
        return {}

    def start(self, kind: Any, arguments: Any, seam: Attended, deadline: float) -> Any:
        """An engine of that kind."""
        attended = type("Engine", (kind,), {"run_scheduler_process_func": staticmethod(seam)})
        return attended(server_args=arguments, _deadline=deadline)

    def within(self, engine: Any, deadline: float) -> contextlib.AbstractContextManager[None]:
        """It has its own deadline."""
        return contextlib.nullcontext()

    def exits(self, before: Sequence[int | None], after: Sequence[int | None]) -> list[int | None]:
        """They end when they are told to."""
        return list(after)


def heard(number: int, frame: object) -> NoReturn:
    """What SGLang is asked to do on SIGQUIT while it starts: not to kill this process."""
    raise ServerFailed(_FAILED)


class Installed:
    """The real SGLang's engine."""

    # A worker that is killed, and multiprocessing's tracker with it, removes nothing. Sockets of ZeroMQ are not closed.
    leaves: Collection[str] = ("shared memory",)
    threads: Sequence[str] = ("ZMQbg/",)

    def asked(self) -> Mapping[str, Any]:
        """Not to end this process; and a port that is still free when the workers come to it.

        Up to 0.5.21 SGLang chooses one of those that the system gives to any connection meanwhile (0.5.18,
        srt/server_args.py; 0.5.22 does not).
        """
        return {"custom_sigquit_handler": heard, "nccl_port": _port()}

    def start(self, kind: Any, arguments: Any, seam: Attended, deadline: float) -> Any:
        """An engine of that kind; its detokenizer sees the same distributions as its schedulers do."""
        own: dict[str, Any] = {"run_scheduler_process_func": staticmethod(seam)}
        if seam.hidden:
            own["run_detokenizer_process_func"] = staticmethod(Hidden(kind.run_detokenizer_process_func, seam.hidden))
        with serving_installed.unheard() as contexts:
            try:
                with _alarm(deadline):
                    engine = type("Engine", (kind,), own)(server_args=arguments)
            except BaseException:
                signal.signal(signal.SIGQUIT, signal.SIG_IGN)
                end_orphans()
                raise
            contexts.clear()
        manager = engine.tokenizer_manager
        manager.signal_handler_class = type(
            "SignalHandler", (manager.signal_handler_class,), {"running_phase_sigquit_handler": _stop}
        )
        return engine

    @contextlib.contextmanager
    def within(self, engine: Any, deadline: float) -> Iterator[None]:
        """Once it serves, SIGQUIT is heard by its event loop, and so is the end of the time."""
        late: list[str] = []

        def stop() -> None:
            late.append(f"no answer after {deadline:g} s")
            engine.loop.stop()

        timer = engine.loop.call_later(deadline, stop)
        try:
            yield
        except RuntimeError as error:
            if engine.loop.is_closed() or "stopped before" not in str(error):
                raise
            raise (TimeoutError(late[0]) if late else ServerFailed(_FAILED)) from None
        finally:
            timer.cancel()

    def exits(self, before: Sequence[int | None], after: Sequence[int | None]) -> list[int | None]:
        """They are killed: what can be seen is that they were there until then."""
        return list(before)


def _stop(*_: Any, **__: Any) -> None:
    asyncio.get_event_loop().stop()


def _port() -> int:
    """A port that nothing listens on, and that the system gives to no connection, where there are such."""
    first = int(_GIVEN.read_text(encoding="ascii").split()[0]) if _GIVEN.exists() else 0
    tried = random.SystemRandom().sample(range(_OTHERS, first), _TRIES) if first >= _OTHERS + _TRIES else []
    for port in (*tried, 0):
        with socket.socket() as own:
            try:
                own.bind(("", port))
            except OSError:
                continue
            return int(own.getsockname()[1])
    raise OSError("no port is free")


@contextlib.contextmanager
def _alarm(deadline: float) -> Iterator[None]:
    """Raise TimeoutError in this, the main thread, after so many seconds."""

    def ring(number: int, frame: object) -> NoReturn:
        raise TimeoutError(f"the server was not ready after {deadline:g} s")

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, deadline)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
