"""Settings of the whole process that code may change without replacing anything: torch's, Python's, the system's.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

DEFAULTS = ("default dtype", "default device", "gradients enabled", "inference mode")
"""Those that change what every later tensor is, or what torch records of it."""


def settings() -> dict[str, Any]:
    """Each setting's value, by its name in plain words; without those of modules that are not imported."""
    found = {}
    for name, (module_name, read) in _READERS.items():
        module = sys.modules.get(module_name)
        if module is not None:
            try:
                found[name] = read(module)
            except Exception:  # an older torch, a system that does not tell, a vendor's own object in its place
                continue
    return found


def shown(value: Any) -> str:
    """A setting's value for a person to read; of an object, its type."""
    if isinstance(value, (str, int, float, tuple, type(None))):
        return repr(value)
    kind = type(value)
    return str(value) if kind.__module__ == "torch" else f"a {kind.__module__}.{kind.__qualname__}"


def _seed(random: Any) -> int:
    """A number that stands for what the generator was seeded with, however many numbers were drawn since."""
    generator = Random()
    generator.setstate(random.getstate())
    if generator.getstate()[1][-1] >= 624:  # all its words are used up: the next draw makes new ones, as if seeded
        generator.getrandbits(32)
    return hash(generator.getstate()[1][:-1])


def _umask(os: Any) -> str:
    # Bytes: decoding them may import a codec. Setting the mask in order to read it would change it for other threads.
    with open("/proc/self/status", "rb") as file:
        return next((line.split()[1].decode() for line in file if line.startswith(b"Umask:")), "")


def _default_device(torch: Any) -> str:
    # torch.get_default_device() imports a module.
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return str(getattr(context, "device", "cpu"))


_READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "default dtype": ("torch", lambda torch: torch.get_default_dtype()),
    "default device": ("torch", _default_device),
    "gradients enabled": ("torch", lambda torch: torch.is_grad_enabled()),
    "inference mode": ("torch", lambda torch: torch.is_inference_mode_enabled()),
    "deterministic algorithms": ("torch", lambda torch: torch.are_deterministic_algorithms_enabled()),
    "float32 matmul precision": ("torch", lambda torch: torch.get_float32_matmul_precision()),
    "torch's seed": ("torch", lambda torch: torch.initial_seed()),
    "torch's number of threads": ("torch", lambda torch: torch.get_num_threads()),
    "random's seed": ("random", _seed),
    "logging.disable": ("logging", lambda logging: logging.root.manager.disable),
    "root logger's level": ("logging", lambda logging: logging.root.level),
    "sys.stdout": ("sys", lambda sys: sys.stdout),
    "sys.stderr": ("sys", lambda sys: sys.stderr),
    "sys.excepthook": ("sys", lambda sys: sys.excepthook),
    "recursion limit": ("sys", lambda sys: sys.getrecursionlimit()),
    "garbage collection": ("gc", lambda gc: gc.isenabled()),
    "umask": ("os", _umask),
    "socket's default timeout": ("socket", lambda socket: socket.getdefaulttimeout()),
    "multiprocessing's start method": ("multiprocessing", lambda module: module.get_start_method(allow_none=True)),
    "limit of open files": ("resource", lambda resource: resource.getrlimit(resource.RLIMIT_NOFILE)),
}
"""The module each stands in, which must be imported already, and how to read it: without changing anything."""
