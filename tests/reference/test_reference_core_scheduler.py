"""The reference's scheduler on the CPU: what it says, and that it gives back all it takes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reference.scheduler_rig import MODEL, Driver, expected, serving

RELEASES = ["0.5.11", "0.5.14", "0.5.18", "0.5.23"]
PROMPTS = MODEL.prompts


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "llama"
    MODEL.write(made)
    return made


@pytest.fixture(autouse=True)
def _cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")


@pytest.fixture
def driver(install: Any, folder: Path) -> Iterator[Driver]:
    install()
    with serving(folder) as made:
        yield made


@pytest.mark.parametrize("release", RELEASES)
def test_greedy_tokens_are_those_of_a_float64_computation(install: Any, folder: Path, release: str) -> None:
    install(release)
    with serving(folder) as driver:
        for number, prompt in enumerate(PROMPTS):
            driver.ask(str(number), prompt)
        steps = driver.finish()
        said = [driver.answers[str(number)] for number in range(len(PROMPTS))]
    assert [tokens for tokens, _ in said] == expected(PROMPTS, 16)
    assert [reason["type"] for _, reason in said] == ["length"] * len(PROMPTS)
    assert [step.prefill for step in steps] == [True] + [False] * 15
    assert steps[3].result.logits_output.next_token_logits.shape == (len(PROMPTS), MODEL.vocabulary)


@pytest.mark.parametrize(
    ("release", "given"),
    [
        ("0.5.11", {"disable_radix_cache": True}),
        ("0.5.13", {"page_size": 4}),
        ("0.5.16", {"page_size": 16, "disable_radix_cache": True}),
        ("0.5.21", {"page_size": 4, "chunked_prefill_size": 8}),
        ("0.5.22", {"chunked_prefill_size": 8, "disable_radix_cache": True}),
        ("0.5.23", {"page_size": 4, "chunked_prefill_size": 8, "max_running_requests": 3}),
    ],
    ids=str,
)
def test_any_schedule_says_the_same(install: Any, folder: Path, release: str, given: dict[str, Any]) -> None:
    """Requests at random moments, a pool too small for them, some given up; all memory comes back."""
    install(release)
    drawn = random.Random(release)
    lengths = [1, 3, 4, 5, 15, 16, 17, 33]
    prompts = tuple(MODEL.prompt(drawn.choice(lengths), number % 3) for number in range(14))
    whole = expected(prompts, 16)
    counts = [drawn.choice([1, 2, 5, 16]) for _ in prompts]
    waiting, given_up = list(range(len(prompts))), set()
    with serving(folder, max_total_tokens=96, schedule_conservativeness=0.01, **given) as driver:
        while waiting or not driver.scheduler.is_fully_idle():
            for _ in range(min(len(waiting), drawn.choice([0, 0, 1, 3]))):
                number = waiting.pop(0)
                driver.ask(f"{number:02}", prompts[number], counts[number])
            if drawn.random() < 0.06:
                given_up.add(drawn.randrange(len(prompts)))
                driver.abort(f"{max(given_up):02}")
            driver.step()
        answers = driver.answers
    assert len(answers) == len(prompts)
    for number, count in enumerate(counts):
        tokens, reason = answers[f"{number:02}"]
        assert tokens == whole[number][: len(tokens)]
        whole_answer = reason["type"] == "length" and len(tokens) == count
        assert whole_answer or (reason["type"] == "abort" and number in given_up)


@pytest.mark.parametrize("release", ["0.5.12", "0.5.23"])
def test_requests_give_way_where_the_pool_is_full(install: Any, folder: Path, release: str) -> None:
    install(release)
    with serving(folder, max_total_tokens=60, schedule_conservativeness=0.01, disable_radix_cache=True) as driver:
        for number, prompt in enumerate(PROMPTS):
            driver.ask(str(number), prompt)
        requests = list(driver.scheduler.waiting_queue)
        driver.finish()
        said = [driver.answers[str(number)][0] for number in range(len(PROMPTS))]
    assert said == expected(PROMPTS, 16)
    assert sum(request.retraction_count for request in requests) > 0


def test_a_request_is_given_up_while_it_waits_runs_or_is_prefilled(install: Any, folder: Path) -> None:
    install()
    with serving(folder, max_running_requests=1, chunked_prefill_size=8) as driver:
        driver.ask("runs", PROMPTS[0])
        driver.ask("waits", PROMPTS[1])
        driver.ask("prefilled", MODEL.prompt(33, 0))
        for _ in range(3):
            driver.step()
        driver.abort("waits")
        assert driver.answers["waits"] == ([], {**driver.answers["waits"][1], "type": "abort"})
        driver.abort("runs")
        while driver.scheduler.chunked_req is None:
            driver.step()
        driver.abort("prefilled")
        driver.finish()
        answers = driver.answers
    assert answers["prefilled"][0] == []
    assert {rid: reason["type"] for rid, (_, reason) in answers.items()} == dict.fromkeys(answers, "abort")
    assert answers["runs"][0] == expected((PROMPTS[0],), 16)[0][: len(answers["runs"][0])]


def test_a_prompt_that_was_there_before_is_not_computed_again(driver: Driver) -> None:
    prompt = MODEL.prompt(33, 0)
    for rid in ("first", "second"):
        driver.ask(rid, prompt)
        driver.finish()
    assert driver.answers["second"][0] == driver.answers["first"][0]
    assert [output.cached_tokens for output in driver.scheduler._channel.sent] == [[0], [32]]
    assert driver.scheduler.flush_cache()
    assert driver.memory.available == driver.memory.total


def test_no_more_requests_run_than_may(install: Any, folder: Path) -> None:
    install()
    with serving(folder, max_running_requests=2) as driver:
        for number, prompt in enumerate(PROMPTS):
            driver.ask(str(number), prompt, 4)
        sizes = [step.size for step in driver.finish()]
    assert max(sizes) == 2


def test_a_token_that_ends_a_text(driver: Driver) -> None:
    whole = expected((PROMPTS[0],), 16)[0]
    driver.ask("ends", PROMPTS[0], stop_token_ids=[whole[5]])
    driver.ask("goes on", PROMPTS[0], stop_token_ids=[whole[5]], ignore_eos=True)
    driver.finish()
    tokens, reason = driver.answers["ends"]
    assert (tokens, reason) == (whole[:6], {"type": "stop", "matched": whole[5]})
    assert driver.answers["goes on"][0] == whole


@pytest.mark.parametrize("length", [0, 600])
def test_a_prompt_without_room_is_answered_at_once(driver: Driver, length: int) -> None:
    driver.ask("no", [1] * length)
    tokens, reason = driver.answers["no"]
    assert tokens == []
    assert "Input length" in reason["message"]


def test_a_slot_that_does_not_come_back_is_told(install: Any, folder: Path) -> None:
    install()
    with serving(folder) as driver:
        kept = driver.scheduler.token_to_kv_pool_allocator.alloc(1)
        with pytest.raises(ValueError, match=r"memory leak detected! total=512, available=511"):
            driver.step()
        driver.scheduler.token_to_kv_pool_allocator.free(kept)


def test_what_is_not_served_is_refused(driver: Driver) -> None:
    request = driver.io.TokenizedGenerateReqInput(rid="0", input_ids=[1], return_logprob=True)
    with pytest.raises(ImportError, match="does not cover requests with return_logprob"):
        driver.scheduler.process_input_requests([request])
