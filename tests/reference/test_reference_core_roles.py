"""The reference's launching process and its ranks, each in a process of its own."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from reference.scheduler_rig import MODEL, USUAL, expected

PROMPTS = MODEL.prompts[:3]
SAMPLING = {"max_new_tokens": 8, "temperature": 0.0}
HOOKS = """
import os
from sglang.srt.plugins.hook_registry import HookRegistry, HookType

def register():
    HookRegistry.register("sglang.srt.managers.scheduler.Scheduler.get_init_info", told, HookType.AFTER)
    HookRegistry.register("sglang.srt.managers.scheduler.Scheduler.run_batch", failing, HookType.BEFORE)

def told(info, *args, **kwargs):
    return {**info, "hooked in": os.getpid()}

def failing(scheduler, batch, *args, **kwargs):
    if any(req.rid == "fails" for req in batch.reqs):
        raise ZeroDivisionError("by a hook")
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "llama"
    MODEL.write(made)
    return made


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[..., Any]:
    """Start an engine of the reference that is installed."""
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")

    def started(**given: Any) -> Any:
        made = importlib.import_module("sglang.srt.entrypoints.engine").Engine
        return made(**{"model_path": str(folder), "_deadline": 100.0, **USUAL, **given})

    return started


def served(engine: Any) -> list[list[int]]:
    answers = engine.generate(input_ids=[list(prompt) for prompt in PROMPTS], sampling_params=SAMPLING)
    return [answer["output_ids"] for answer in answers]


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]


@pytest.mark.parametrize(
    ("release", "sizes"),
    [("0.5.11", {"tp_size": 2}), ("0.5.16", {"pp_size": 2}), ("0.5.23", {"tp_size": 2}), ("0.5.23", {"pp_size": 2})],
    ids=str,
)
def test_several_ranks_say_what_one_does(install: Any, engine: Any, release: str, sizes: dict[str, int]) -> None:
    install(release)
    with engine(**sizes) as several:
        assert served(several) == expected(PROMPTS, 8)
        assert len(several._scheduler_init_result.all_child_pids) == 2
    assert children() == []


def test_a_rank_is_hooked_served_ended_and_started_again(install: Any, engine: Any, plugin: Any) -> None:
    install()
    plugin("vendor-hooks", HOOKS, plugins={"hooks": "register"})
    pids = set()
    for _ in range(2):
        with engine() as one:
            (info,) = one._scheduler_init_result.scheduler_infos
            assert info["max_total_num_tokens"] == 512
            pids.add(info["hooked in"])
            assert served(one) == expected(PROMPTS, 8)
            assert one.flush_cache().success
            _give_up_midway(one)
        assert children() == []
    assert len(pids - {os.getpid()}) == 2
    _failure_while_serving(engine)


def _give_up_midway(one: Any) -> None:
    client = one.tokenizer_manager
    timer = threading.Timer(0.2, client.abort_request, kwargs={"rid": "long"})
    timer.start()
    answer = one.generate(input_ids=list(PROMPTS[0]), sampling_params={**SAMPLING, "max_new_tokens": 400}, rid="long")
    timer.join()
    assert answer["meta_info"]["finish_reason"]["type"] == "abort"
    assert answer["meta_info"]["completion_tokens"] < 400


def _failure_while_serving(engine: Any) -> None:
    with engine() as one, pytest.raises(RuntimeError, match=r"died while serving \(exit code: 1\): ZeroDivisionError"):
        one.generate(input_ids=[1], sampling_params=SAMPLING, rid="fails")
    assert children() == []


def test_a_rank_that_cannot_start_is_told_with_its_cause(
    install: Any, engine: Any, folder: Path, tmp_path: Path
) -> None:
    install()
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(RuntimeError, match=r"Initialization failed.*exit code: 1.*pytorch_model.bin"):
        engine(model_path=str(tmp_path))
    assert children() == []


def test_a_rank_that_is_killed_is_told(install: Any, engine: Any) -> None:
    install()
    with engine() as one:
        (pid,) = one._scheduler_init_result.all_child_pids
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"exit code: -9"):
            served(one)


def test_ranks_that_are_late_are_ended(install: Any, engine: Any) -> None:
    install()
    with pytest.raises(RuntimeError, match=r"PP0 TP0 not ready after 0.01 seconds"):
        engine(_deadline=0.01)
    assert children() == []
