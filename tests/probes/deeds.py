"""Deeds for the tests of the observer: each changes one thing in the process that does it."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any


def nothing() -> None:
    pass


def sets_a_variable() -> None:
    os.environ["DEED"] = "1"


def changes_a_variable() -> None:
    os.environ["STANDING"] = "after"


def removes_a_variable() -> None:
    del os.environ["STANDING"]


def imports_a_module() -> None:
    import colorsys  # noqa: F401


def plants_a_stub() -> None:
    sys.modules["flash_attn"] = types.ModuleType("flash_attn")


def patches_a_class_of_torch() -> None:
    import torch

    original = torch.Tensor.to
    torch.Tensor.to = lambda self, *args, **kwargs: original(self, *args, **kwargs)  # type: ignore[method-assign]


def patches_what_torch_inherits() -> None:
    import torch

    torch.Tensor.add = lambda self, other: self  # type: ignore[assignment,method-assign,misc]


def patches_a_function_of_torch() -> None:
    import torch

    torch.zeros = lambda *size, **options: torch.ones(*size, **options)


def patches_with_a_class_instance() -> None:
    class Zeros:
        def __call__(self, *size: int) -> None:
            return None

    import torch

    torch.zeros = Zeros()  # type: ignore[assignment]


def patches_a_class_method() -> None:
    import threading as target

    target.Thread.start = lambda self: None  # type: ignore[method-assign]


def replaces_a_class() -> None:
    import torch

    class Stream(torch.cuda.Stream):
        pass

    torch.cuda.Stream = Stream  # type: ignore[misc]


def removes_a_function() -> None:
    import torch

    del torch.zeros


def patches_the_standard_library() -> None:
    os.getpid = lambda: 1


def adds_an_attribute() -> None:
    import torch

    torch.acme = lambda: 1  # type: ignore[attr-defined]
    torch.Tensor.acme = lambda self: 1  # type: ignore[attr-defined]


def imports_a_watched_module() -> None:
    import torch.utils.cpp_extension  # noqa: F401


def patches_a_host_that_is_imported() -> None:
    from sglang.srt import host

    host.answer = lambda: 2


def starts_a_thread() -> None:
    threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()


def thread_that_ends() -> None:
    thread = threading.Thread(target=nothing)
    thread.start()
    thread.join()


def sets_a_signal_handler() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: None)


def enters_another_folder() -> None:
    os.chdir("/")


def adds_to_the_import_path() -> None:
    sys.path.append("/opt/acme/lib")


def logs_and_computes() -> None:
    import torch

    logging.getLogger("acme").info("device found")
    torch.zeros(8).add_(1).sum().item()
    Path("/proc/self/stat").read_text()


def hides_what_is_on_the_import_path() -> None:
    sys.path.insert(0, "/opt/acme/lib")


def draws_random_numbers() -> None:
    for _ in range(100):
        random.random()


def seeds_random() -> None:
    random.seed(0)


def changes_the_default_dtype() -> None:
    import torch

    torch.set_default_dtype(torch.float64)


def silences_logging() -> None:
    logging.disable(logging.CRITICAL)


def claims_another_cuda() -> None:
    import torch

    torch.version.cuda = "12.4"


def imports_torchs_compiler() -> None:
    import torch._dynamo  # noqa: F401


def says_its_device_is_initialised() -> None:
    import torch

    torch.cuda._initialized = True


def registers_an_initialised_device() -> None:
    import torch

    module: Any = types.ModuleType("torch.acme")
    module.device_count = lambda: 1
    module.is_initialized = lambda: True
    torch.acme = module  # type: ignore[attr-defined]
