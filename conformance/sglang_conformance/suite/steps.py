"""Asserts about the steps of a plugin's story, for the checks that read it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib.machinery
import re
from collections.abc import Sequence
from typing import Any

from ..blame import stack_in, vendor_line
from ..contract.model import Contract
from ..hosts.story import Step, Story
from ..probes.settings import DEFAULTS
from ..subject import Subject
from . import expect

SHARED_VARIABLES = frozenset(
    {
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR"),
        *("MASTER_PORT", "PATH", "HOME", "TMPDIR", "LANG", "PYTHONPATH", "PYTHONHASHSEED", "GLOO_SOCKET_IFNAME"),
        *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
        *("PYTORCH_NVML_BASED_CUDA_CHECK", "PYTORCH_ENABLE_MPS_FALLBACK", "PYTORCH_JIT", "TORCH_HOME", "TORCH_LOGS"),
        *("TORCH_EXTENSIONS_DIR", "TORCH_CUDA_ARCH_LIST", "TORCH_DEVICE_BACKEND_AUTOLOAD", "TORCH_COMPILE_DISABLE"),
        *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT", "TORCH_CPP_LOG_LEVEL"),
        *("TORCH_SHOW_CPP_STACKTRACES", "TORCH_DISTRIBUTED_DEBUG", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"),
    }
)
"""Variables that the launcher, torch or every process reads; those of SGLang are in the contract."""

SHARED_PREFIXES = (
    *("CUDA_", "HIP_", "ROCR_", "NCCL_", "TORCH_NCCL_", "TORCHELASTIC_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "OMP_"),
    *("MKL_", "KMP_", "LD_"),
)
"""How the variables begin that one library reads, which is not the vendor's."""

_COMMON_WORDS = frozenset({"SGLANG", "TORCH", "PYTORCH", "PLUGIN", "PLATFORM", "CUDA", "HIP", "NCCL", "SRT", "OMP"})
_HOST_ROOMS = ("sglang.srt.platforms", "sglang.srt.plugins", "sglang.srt.environ")


def came_through(
    story: Story, name: str, *, call: str, expected: str = "no error", where: str = "", cause: str = ""
) -> Step:
    """The step, which must have been walked without an error; ``where`` is the place where the error tells none.

    NotReached where it ended at what the reference host does not cover: that says nothing about the plugin.
    """
    step = _begun(story, name)
    if step.failure is not None:
        failure = step.failure
        if "NotCovered" in failure.bases:
            raise expect.NotReached(failure.message)
        raised = f"{failure.type}: {failure.message}" if failure.kind == "raised" else failure.message
        expect.fail(
            expected=expected,
            seen=raised,
            call=call,
            where=vendor_line(failure.frames) or vendor_line(stack_in(story.output)) or where,
            cause=cause,
            detail=failure.traceback or story.output,
        )
    return step


def walked(story: Story, name: str) -> Step:
    """The step, with what it did to its process; NotReached where the plugin did not come to its end.

    Such a failure is another requirement's to report.
    """
    step = _begun(story, name)
    if not step.changes:
        raise expect.NotReached(f"the step {name!r} did not end")
    return step


def _begun(story: Story, name: str) -> Step:
    step = story.step(name)
    if step is None:
        failed = story.failed
        reached = f"it failed at {failed.name!r}" if failed else "it was not begun"
        raise expect.NotReached(story.obstacle or f"the plugin did not come as far as {name!r}: {reached}")
    return step


def package_of(subject: Subject) -> str:
    """The package that the entry point stands in."""
    return re.split(r"[.:]", subject.entry_point.value)[0].strip() if subject.entry_point else ""


def package_place(subject: Subject) -> str:
    """The file of that package, found without importing it; the entry point itself where there is none."""
    spec = importlib.machinery.PathFinder.find_spec(package_of(subject))
    return spec.origin if spec and spec.origin else f"entry_points.txt of {subject.distribution}"


def kept_shared_variables(step: Step, subject: Subject, contract: Contract, *, call: str) -> None:
    """The step changed no variable that others read."""
    changes = step.changes["environment"]
    _unchanged({name: pair for name, pair in changes.items() if is_shared(name, subject, contract)}, step, call)


def kept_variables(step: Step, *, call: str) -> None:
    """The step changed no variable at all."""
    _unchanged(step.changes["environment"], step, call)


def patched_nothing(step: Step, *, own: str, call: str) -> None:
    """The step replaced no function or class of torch, SGLang or the standard library, nor planted a stub module.

    ``own`` is the vendor's package, in which it may make modules as it likes.
    """
    expect.that(
        not step.changes["patches"],
        expected="torch, SGLang and the standard library as they were",
        seen=f"replaced: {listed(step.changes['patches'])}",
        call=call,
        where=_where(step),
    )
    stubs = [name for name in step.changes["stubs"] if name.partition(".")[0] != own]
    expect.that(
        not stubs,
        expected="only modules that an import made",
        seen=f"put into sys.modules by hand: {listed(stubs)}",
        call=call,
        where=_where(step),
    )


def kept_defaults(step: Step, *, call: str) -> None:
    """The step changed none of torch's defaults, which every later tensor follows."""
    _kept_settings({name: pair for name, pair in step.changes["settings"].items() if name in DEFAULTS}, step, call)


def kept_settings(step: Step, *, call: str) -> None:
    """The step changed no other setting of the process, and put nothing before what is on the import path."""
    others = {name: pair for name, pair in step.changes["settings"].items() if name not in DEFAULTS}
    _kept_settings(others, step, call)
    expect.that(
        not step.changes["paths"],
        expected="an import path on which nothing hides what stood there",
        seen=f"put in front: {listed(step.changes['paths'])}",
        call=call,
        where=_where(step),
    )


def _kept_settings(changed: dict[str, Any], step: Step, call: str) -> None:
    expect.that(
        not changed,
        expected="the settings of this process as they were",
        seen="; ".join(f"the {name} was {before} and became {after}" for name, (before, after) in changed.items()),
        call=call,
        where=_where(step),
    )


def imported_no_subsystem(step: Step, *, call: str) -> None:
    """The step imported nothing of SGLang beyond what plugins are made of."""
    others = [
        name for name in step.changes["modules"] if name.startswith("sglang.srt.") and not name.startswith(_HOST_ROOMS)
    ]
    expect.that(
        not others,
        expected="nothing of SGLang but srt.platforms, srt.plugins and srt.environ",
        seen=listed(others),
        call=call,
        where=_where(step),
    )


def started_nothing(step: Step, *, call: str) -> None:
    """The step left no thread, signal handler or working folder behind."""
    left = {
        "threads": step.changes["threads"],
        "signal handlers": step.changes["signals"],
        "working folder": [step.changes["folder"]] if step.changes["folder"] else [],
    }
    seen = "; ".join(f"{what}: {listed(names)}" for what, names in left.items() if names)
    expect.that(not seen, expected="no thread, signal handler or working folder changed", seen=seen, call=call)


def started_no_device(step: Step, *, call: str) -> None:
    """The step initialised no device."""
    expect.that(
        not step.changes["devices"],
        expected="no device initialised",
        seen=f"initialised: {', '.join(f'torch.{name}' for name in step.changes['devices'])}",
        call=call,
        where=_where(step),
    )


def is_shared(variable: str, subject: Subject, contract: Contract) -> bool:
    """Whether a variable is one that others read: SGLang, torch, the launcher, and any vendor's visible devices.

    One whose name holds the platform's or its distribution's is the vendor's own, also among torch's or SGLang's.
    """
    if variable.endswith("VISIBLE_DEVICES") or variable in SHARED_VARIABLES:
        return True
    if variable in {known.name for known in contract.environment}:
        return True
    return variable.startswith(SHARED_PREFIXES) and not _own_words(subject) & set(variable.split("_"))


def _own_words(subject: Subject) -> set[str]:
    """The words that name the vendor."""
    return words(f"{subject.name} {subject.distribution}") - _COMMON_WORDS


def words(text: str) -> set[str]:
    """The words of a name, as the names of variables spell them."""
    return {word for word in re.split(r"[^A-Z0-9]+", text.upper()) if word}


def listed(names: Sequence[str], most: int = 4) -> str:
    """A few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _unchanged(changed: dict[str, Any], step: Step, call: str) -> None:
    expect.that(
        not changed, expected="the environment as it was", seen=_variables(changed), call=call, where=_where(step)
    )


def _variables(changed: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {before!r} became {after!r}" for name, (before, after) in changed.items())


def _where(step: Step) -> str:
    return str(step.value.get("where", ""))
