"""INIT: what happens in each worker before it serves: the device is started, the loaded model is handed over.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..hosts.enter import resolve
from ..probes.observe import changes, observe
from ..subject import Subject
from . import expect, isolate, steps
from .aids import host_torch, models, worker
from .declare import in_host, in_probe, requirement

RANK_VARIABLES = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("SGLANG_PLATFORM", "SGLANG_PLUGINS", "CUDA_VISIBLE_DEVICES"),
)
MODULE_MEMBERS = ("set_device", "current_device", "device_count", "current_stream", "Stream", "stream", "synchronize")


@requirement("INIT-001")
@in_probe
def test_init_backend_starts_the_device(platform: Any) -> None:
    expect.ask(platform, "init_backend")


@requirement("INIT-002")
@in_probe
def test_init_backend_can_be_called_again(platform: Any) -> None:
    device = worker.devices(platform)[-1]
    worker.make_current(platform, device)
    for _ in range(2):
        answer = expect.ask(platform, "init_backend")
    _keeps_current(platform, device, answer)
    _compute(device)


@requirement("INIT-003")
@in_probe
def test_init_backend_sets_no_variable_of_the_launcher(platform: Any) -> None:
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)
    _keeps_launchers_environment(platform)


@requirement("INIT-003")
@in_probe
def test_init_backend_changes_no_variable_of_the_launcher(platform: Any) -> None:
    launcher = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "10.1.2.3", "MASTER_PORT": "29511"}
    os.environ.update({**launcher, "GROUP_RANK": "1", "NODE_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    _keeps_launchers_environment(platform)


@requirement("INIT-004")
@in_probe
def test_init_backend_leaves_torchs_defaults_and_the_folder(platform: Any) -> None:
    before = _defaults()
    answer = expect.ask(platform, "init_backend")
    after = _defaults()
    moved = [name for name in before if after[name] != before[name]]
    expect.equal({n: after[n] for n in moved}, {n: before[n] for n in moved}, call=answer.call, where=answer.where)


@requirement("INIT-005")
@in_probe
def test_init_backend_leaves_random_numbers_and_signals(platform: Any) -> None:
    import torch

    expected = _drawn_after_a_seed()
    torch.manual_seed(1234)
    random.seed(1234)
    before = observe()
    answer = expect.ask(platform, "init_backend")
    changed = changes(before, observe())
    drawn = _drawn()
    moved = [name for name in drawn if drawn[name] != expected[name]]
    expect.equal(moved, [], call=f"{answer.call}; what draws other numbers after a seed", where=answer.where)
    expect.equal(list(changed.signals), [], call=f"{answer.call}; signals with another handler", where=answer.where)


@requirement("INIT-006")
@in_host
def test_resolving_starts_neither_device_nor_threads() -> None:
    before = observe()
    answer = expect.attempt("sglang.srt.platforms.current_platform", resolve)
    changed = changes(before, observe())
    where = expect.place(type(answer.value))
    cause = "the import of the platform, activate() or the constructor does what belongs into init_backend()"
    expect.equal(list(changed.devices), [], call=f"{answer.call}; devices started by it", where=where, cause=cause)
    expect.equal(list(changed.threads), [], call=f"{answer.call}; threads started by it", where=where, cause=cause)


@requirement("INIT-007")
@in_probe
def test_torch_has_the_device_module_that_workers_use(platform: Any) -> None:
    import torch

    worker.start(platform)
    module = worker.module_of(platform)
    call = f"torch.get_device_module({platform.device_type!r})"
    missing = [name for name in MODULE_MEMBERS if not callable(getattr(module, name, None))]
    expect.equal(
        missing, [], call=f"{call}; functions that are missing", where=expect.place_of(platform, "init_backend")
    )
    worker.make_current(platform, worker.devices(platform)[0])

    def on_a_stream() -> list[int]:
        with module.stream(module.Stream()):
            tensor = torch.arange(4, device=platform.device_type) + 1
        module.synchronize()
        return [int(n) for n in worker.values(tensor)]

    expect.equal(expect.attempt(f"{call}.stream(...)", on_a_stream), [1, 2, 3, 4])


@requirement("INIT-008")
@in_probe
def test_two_workers_start_the_device_side_by_side(platform: Any, deadline: float) -> None:
    def work(rank: int) -> list[int]:
        devices = worker.devices(platform)
        worker.make_current(platform, devices[rank % len(devices)])
        return _compute(devices[rank % len(devices)])

    call = "init_backend() in two workers at once, then [1, 2, 3] + 1 on the device"
    if not isolate.can_fork(platform):
        raise expect.Declined(isolate.CANNOT_FORK)
    for number, outcome in enumerate(isolate.in_forks([lambda: work(0), lambda: work(1)], deadline)):
        expect.equal(outcome.settled(f"worker {number}: {call}"), [2, 3, 4], call=call)


@requirement("INIT-009")
@in_probe
def test_post_load_model_keeps_what_the_model_computes(platform: Any) -> None:
    for shape in (models.Shape(12, 8, 16), models.Shape(5, 6, 6)):  # the target's model, then the draft's
        _keeps_what_it_computes(platform, shape)


@requirement("INIT-009")
@in_probe
@given(sizes=st.tuples(st.integers(1, 24), st.integers(2, 24), st.integers(1, 24)))
def test_post_load_model_keeps_any_shape(platform: Any, sizes: tuple[int, int, int]) -> None:
    _keeps_what_it_computes(platform, models.Shape(*sizes))


@requirement("INIT-011")
@in_probe
def test_post_load_model_works_in_place(platform: Any) -> None:
    model = models.loaded(models.Shape(12, 8, 16), worker.devices(platform)[0])
    before = models.layout(model)
    answer = models.hand_over(platform, model)
    cause = "SGLang drops what is returned: the model is changed in place"
    expect.that(
        answer.value is None or answer.value is model,
        expected="None",
        seen=expect.show(answer.value),
        answer=answer,
        cause=cause,
    )
    expect.equal(models.layout(model), before, call=f"{answer.call}; the parameters", where=answer.where)
    models.loads_again(model, call=answer.call, where=answer.where)


@requirement("INIT-012")
@in_probe
def test_post_load_model_leaves_the_ways_in_for_new_weights(platform: Any) -> None:
    model = models.loaded(models.Shape(12, 8, 16), worker.devices(platform)[0])
    answer = models.hand_over(platform, model)
    lost = models.without_loader(model)
    expect.equal(lost, [], call=f"{answer.call}; parameters that lost their weight_loader", where=answer.where)
    expect.that(
        models.are_tied(model),
        expected=f"{' and '.join(models.TIED)} are one parameter, as before",
        seen="two parameters",
        answer=answer,
        cause="new weights then reach one of them only: change a parameter's data, or replace it wherever it stands",
    )


@requirement("INIT-013")
@in_probe
def test_init_backend_leaves_what_torch_computes_on_the_host(platform: Any) -> None:
    before = host_torch.computed()
    answer = expect.ask(platform, "init_backend")
    moved = host_torch.differing(before, host_torch.computed())
    expect.equal(moved, [], call=f"{answer.call}; what gives other results on the host", where=answer.where)


@requirement("INIT-014")
@in_probe
def test_init_backend_patches_nothing(platform: Any, subject: Subject) -> None:
    before = observe()
    answer = expect.ask(platform, "init_backend")
    changed = changes(before, observe())
    own = steps.package_of(subject)
    stubs = [name for name in changed.stubs if name.partition(".")[0] != own]
    cause = "a hook says what it replaces, and works in every process"
    expect.equal(list(changed.patches), [], call=f"{answer.call}; replaced by it", where=answer.where, cause=cause)
    expect.equal(stubs, [], call=f"{answer.call}; modules that no import made", where=answer.where, cause=cause)


@requirement("INIT-015")
@in_probe
def test_init_backend_sets_no_variable_of_sglangs(platform: Any, subject: Subject) -> None:
    before = observe()
    answer = expect.ask(platform, "init_backend")
    changed = changes(before, observe()).environment
    vendors = steps.words(f"{subject.name} {subject.distribution} {platform.device_name}")
    vendors -= steps.words("sglang srt plugin platform")
    others = {n: pair[1] for n, pair in changed.items() if n.startswith("SGLANG_") and not steps.words(n) & vendors}
    expect.equal(others, {}, call=f"{answer.call}; SGLang's variables that it changed", where=answer.where)


def _keeps_current(platform: Any, device: Any, answer: expect.Answer) -> None:
    if device.type != "cpu":
        current = expect.attempt(f"torch.{device.type}.current_device()", worker.module_of(platform).current_device)
        expect.equal(current, device.index, call=f"{current.call} after {answer.call}", where=answer.where)


def _keeps_what_it_computes(platform: Any, shape: models.Shape) -> None:
    device = worker.devices(platform)[-1]
    worker.make_current(platform, device)
    model = models.loaded(shape, device)
    answer = models.hand_over(platform, model)
    _keeps_current(platform, device, answer)
    models.computes(model, shape, device, call=answer.call, where=answer.where)


def _drawn_after_a_seed() -> dict[str, list[float]]:
    import torch

    torch.manual_seed(1234)
    random.seed(1234)
    return _drawn()


def _drawn() -> dict[str, list[float]]:
    import torch

    numbers = [random.random() for _ in range(8)]
    return {"torch.rand": torch.rand(8, dtype=torch.float32).tolist(), "random.random": numbers}


def _keeps_launchers_environment(platform: Any) -> None:
    before = {name: os.environ.get(name) for name in RANK_VARIABLES}
    answer = expect.ask(platform, "init_backend")
    left = {name: os.environ.get(name) for name in RANK_VARIABLES if os.environ.get(name) != before[name]}
    expect.equal(left, {}, call=f"{answer.call}; the launcher's variables that it changed", where=answer.where)


def _defaults() -> dict[str, str]:
    """What torch takes where it is not told, and the working folder, as texts."""
    import torch

    return {
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "gradients": str(torch.is_grad_enabled()),
        "inference mode": str(torch.is_inference_mode_enabled()),
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "anomaly detection": str(torch.is_anomaly_enabled()),
        "default process group": str(torch.distributed.is_available() and torch.distributed.is_initialized()),
        "working folder": os.getcwd(),
    }


def _compute(device: Any) -> list[int]:
    import torch

    result = expect.attempt(f"[1, 2, 3] + 1 on {device}", lambda: torch.tensor([1, 2, 3]).to(device) + 1)
    seen = [int(n) for n in worker.values(result.value)]
    expect.equal(seen, [2, 3, 4], call=result.call)
    return seen
