"""Jobs for the tests of probes: each does one thing that vendor code might do."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from probes import deeds
from sglang_conformance.probes.observe import changes, observe
from sglang_conformance.probes.server import Probe


def answer(probe: Probe, value: Any) -> Any:
    return value


def state(probe: Probe) -> Any:
    return probe.state


def become(probe: Probe, value: Any) -> tuple[Any, str]:
    return value, "ready"


def raises(probe: Probe) -> None:
    raise ValueError("no such device")


def leaves(probe: Probe, status: int) -> None:
    os._exit(status)


def system_exit(probe: Probe) -> None:
    sys.exit(3)


def kills_itself(probe: Probe) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def kills_its_parent(probe: Probe) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(10)


def hangs(probe: Probe) -> None:
    probe.progress("about to hang")
    time.sleep(600)


def hangs_deaf(probe: Probe) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def prints(probe: Probe, megabytes: int) -> str:
    line = "x" * ((1 << 20) - 1)
    print("first")
    for _ in range(megabytes):
        print(line)
    print("last", flush=True)
    return "printed"


def leaves_children(probe: Probe) -> list[int]:
    quiet = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    return [quiet.pid]


def closes_its_output(probe: Probe) -> str:
    os.close(1)
    os.close(2)
    return "fine"


def prints_for_ever(probe: Probe) -> None:
    line = b"x" * (1 << 16)
    while True:
        os.write(1, line)


def leaves_a_printing_child(probe: Probe) -> str:
    script = "import os\nwhile True: os.write(1, b'x' * 65536)"
    subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    time.sleep(0.2)
    return "left"


def leaves_a_child_that_ends_with_it(probe: Probe) -> int:
    reader, writer = os.pipe()
    os.set_inheritable(writer, False)
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=reader)
    return child.pid


def becomes_owner_of_memory(probe: Probe) -> tuple[SharedMemory, str]:
    memory = SharedMemory(create=True, size=4096)
    return memory, memory.name


def owns_memory_and_hangs(probe: Probe) -> None:
    memory = SharedMemory(create=True, size=4096)
    probe.progress(memory.name)
    time.sleep(600)


def leaves_children_and_hangs(probe: Probe) -> None:
    probe.progress(str(leaves_children(probe)[0]))
    time.sleep(600)


def leaves_a_thread(probe: Probe) -> tuple[None, str]:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return None, "ready"


def returns_code(probe: Probe) -> Any:
    return lambda: 1


def returns_bytes(probe: Probe, megabytes: int) -> str:
    return "x" * (megabytes << 20)


def returns_depth(probe: Probe) -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def raises_with_a_broken_text(probe: Probe) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    raise Broken


def raises_with_code_attached(probe: Probe) -> None:
    error = ValueError("no such device")
    error.finding = lambda: 1  # type: ignore[attr-defined]
    raise error


def says(probe: Probe, words: list[str]) -> str:
    for word in words:
        probe.progress(word)
    return "said"


def pid(probe: Probe) -> int:
    return os.getpid()


def can_import(probe: Probe, module: str) -> str:
    return str(importlib.import_module(module).__name__)


def versions(probe: Probe, distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def import_path(probe: Probe) -> list[str]:
    return sys.path


def reads_its_input(probe: Probe) -> str:
    return sys.stdin.read()


def observed(probe: Probe, deed: str) -> dict[str, Any]:
    """What the observer sees of one deed."""
    before = observe()
    getattr(deeds, deed)()
    return changes(before, observe()).to_json()


def environment(probe: Probe, name: str) -> Any:
    return os.environ.get(name)


def entry_points(probe: Probe, group: str) -> list[str]:
    from importlib.metadata import entry_points as all_entry_points

    return sorted(f"{e.name}={e.value}" for e in all_entry_points(group=group))


def modules(probe: Probe) -> list[str]:
    return sorted(sys.modules)


def imports_the_host(probe: Probe) -> tuple[None, str]:
    importlib.import_module("sglang.srt.host")
    return None, "imported"
