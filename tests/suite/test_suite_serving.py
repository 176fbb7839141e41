"""What the checks that serve a model say of it, by what was seen: numbers are the oracle's own, spoilt by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from journey import made
from sglang_conformance.journey.served import Answer, Served
from sglang_conformance.suite import expect
from sglang_conformance.suite.serving import blaming, judging

_PLUGIN = """
class Pool:
    def __init__(self, size):
        self.layout = size.layout


class Platform:
    def get_kv_pool_cls(self, kind):
        return Pool

    def get_dispatch_key_name(self):
        return "vendor"

    def get_paged_allocator_cls(self):
        return None

    def post_load_model(self, model):
        pass
"""


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A vendor's platform with some members of its own."""
    import importlib
    import sys

    (tmp_path / "vendors_platform.py").write_text(_PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("vendors_platform")
    made_of = module.Platform()
    monkeypatch.setattr(blaming, "_platform", lambda: made_of)
    yield made_of
    del sys.modules["vendors_platform"]


def off(served: Served, by: float = 1.0) -> Served:
    """The same, with a wrong logit of the second token of the first request."""
    answer = served.answers["r0"]
    logits = [row.copy() for row in answer.logits]
    logits[1][3] += by
    return replace(served, answers={**served.answers, "r0": replace(answer, logits=tuple(logits))})


def finding(judge: Any, *given: Any) -> dict[str, Any]:
    with pytest.raises(expect.Violation) as caught:
        judge(*given)
    return caught.value.finding


def wrong(module: str, output: str = "", number: int = 0, by: str = "", where: str = "", **changes: Any) -> Served:
    """What was served with one number of a module wrong, and a wrong logit for it."""
    spoil = made.spoilt(module, output)

    def change(seen: Any) -> Any:
        new: Any = spoil(seen)
        return seen if new is seen else replace(new, by=by, where=where)

    return off(made.served(made.changed(made.passes(), number, change), **changes))


def test_right_serving_is_right_in_every_respect() -> None:
    served = made.served(made.passes())
    assert judging.born(served) is None
    judging.parts_are_right(served, judging.OPERATORS)
    assert "the largest error is 0.00 of the tolerance" in judging.all_is_right(served)
    assert judging.likeliest_are_taken(served) == "llama, eager, float32: 6 tokens"
    judging.same_tokens(served, served, "again")
    assert judging.logits_apart(served, off(served, 0.5)) == pytest.approx(0.5)


def test_part_that_is_computed_otherwise_is_right_where_the_logits_are() -> None:
    given = made.changed(made.passes(), 0, made.spoilt("model.layers.0.input_layernorm"))
    served = made.served(given)
    assert judging.born(served) is None
    judging.parts_are_right(served, judging.OPERATORS)
    blind = {name: replace(answer, logits=()) for name, answer in served.answers.items()}
    found = judging.born(replace(served, answers=blind))
    assert found is not None
    assert found.kind == "norm"


def test_wrong_operator_is_told_with_its_member_and_its_line() -> None:
    served = wrong("model.layers.1.input_layernorm", by="vendor.kernels.norm", where="kernels.py:7")
    told = finding(judging.parts_are_right, served, judging.OPERATORS)
    assert "model.layers.1.input_layernorm, column 0, position 6 of request r1, in pass 0 (extend)" in told["call"]
    assert told["where"] == "kernels.py:7"
    assert "vendor.kernels.norm, which SGLang has by get_dispatch_key_name()" in told["cause"]
    with pytest.raises(expect.NotReached, match="born elsewhere, in the norm"):
        judging.parts_are_right(served, judging.LAYERS)


def test_wrong_layer_is_told_with_what_may_have_changed_its_weight() -> None:
    told = finding(judging.parts_are_right, wrong("model.layers.0.self_attn.o_proj", by="sglang.X"), judging.LAYERS)
    assert "torch's own operators, which sglang.X runs on the device, or what post_load_model() gives" in told["cause"]
    assert told["where"].startswith(blaming.place("post_load_model").rpartition(":")[0])


def test_wrong_pool_and_attention_are_told_by_the_classes_that_serve() -> None:
    parts = {"pool": "vendor.Pool", "allocator": "sglang.Allocator", "attention": "sglang.Attention"}
    served = wrong("token_to_kv_pool.0", "v", classes=parts, places={"pool": "pool.py:3"})
    told = finding(judging.parts_are_right, served, ("pool",))
    assert "vendor.Pool, which SGLang has by get_kv_pool_cls()" in told["cause"]
    assert told["where"] == "pool.py:3"
    told = finding(judging.parts_are_right, wrong("model.layers.0.self_attn.attn", classes=parts), ("attention",))
    assert "torch's own operators, which sglang.Attention runs on the device" in told["cause"]


def test_attention_over_a_pool_that_was_not_seen_names_both() -> None:
    def change(seen: Any) -> Any:
        return None if "pool" in seen.module else made.spoilt("model.layers.0.self_attn.attn")(seen)

    parts = {"pool": "vendor.Pool", "attention": "vendor.Attention"}
    served = off(made.served(made.changed(made.passes(), 0, change), classes=parts))
    told = finding(judging.parts_are_right, served, ("attention",))
    assert "vendor.Attention, or vendor.Pool, of which nothing was seen" in told["cause"]


def test_slot_that_two_tokens_have_is_told() -> None:
    slots = {"r0": range(16, 32), "r1": [*range(32, 35), 16, *range(36, 48)]}
    told = finding(judging.slots_are_nobodys_else, made.served(made.passes(slots=slots)))
    assert told["seen"] == "slot 16 for position 0 of request r0 and for position 3 of request r1"
    assert told["cause"] == "slots come from sglang.Allocator, by get_paged_allocator_cls()"


def test_token_that_is_not_the_likeliest_is_told_with_where_it_is_born() -> None:
    served = made.served(made.passes())
    answer = served.answers["r1"]
    tokens = (*answer.tokens[:2], (answer.tokens[2] + 1) % 320)
    other = replace(served, answers={**served.answers, "r1": replace(answer, tokens=tokens)})
    told = finding(judging.likeliest_are_taken, other)
    assert told["expected"].startswith(f"{answer.tokens[2]}: its logit is")
    assert "token 2 of request r1" in told["call"]
    told = finding(judging.tokens_are_right, other)
    assert "all that was seen on the way is right: it is born in sampling" in told["cause"]
    assert finding(judging.same_tokens, served, other, "again")["call"].endswith("token 2 of request r1")


def test_token_outside_of_the_vocabulary_and_logits_that_are_no_numbers() -> None:
    served = made.served(made.passes())
    answer = served.answers["r0"]
    beyond = replace(answer, tokens=(999, *answer.tokens[1:]))
    told = finding(judging.likeliest_are_taken, replace(served, answers={**served.answers, "r0": beyond}))
    assert told["seen"] == "999: there is no such token"
    with pytest.raises(expect.NotReached, match="the logits are not all numbers"):
        judging.likeliest_are_taken(off(served, float("nan")))
    told = finding(judging.logits_are_right, off(served, float("nan")))
    assert told["seen"] == "nan"


def test_request_without_its_tokens_is_told() -> None:
    served = made.served(made.passes())
    short = Answer(served.answers["r0"].request, (), (), (), "abort")
    assert "(abort)" in finding(judging.tokens_are_right, replace(served, answers={"r0": short}))["call"]


def test_what_stands_in_the_place_of_modules_is_judged_by_logits() -> None:
    def change(seen: Any) -> Any:
        return None if ".layers.0.mlp." in seen.module else made.spoilt("model.layers.1.input_layernorm")(seen)

    served = off(made.served(made.changed(made.passes(), 0, change)))
    for kinds in (judging.OPERATORS, judging.LAYERS):
        judging.parts_are_right(served, kinds)
    assert "in the place of model.layers.0.mlp.gate_up_proj" in finding(judging.logits_are_right, served)["cause"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Pool() got an unexpected keyword argument", "the class Pool, which platform.get_kv_pool_cls() gave"),
        ("no forward_vendor: vendor", "goes by 'vendor', which platform.get_dispatch_key_name() answered"),
        ("memory leak in the allocator", "the allocator is the platform's, by get_paged_allocator_cls()"),
        ("division by zero", "of what SGLang was given: platform.get_kv_pool_cls() gave <class"),
    ],
)
def test_error_is_put_down_to_an_answer_that_it_speaks_of(platform: Any, text: str, told: str) -> None:
    with blaming.asking() as asked:
        platform.get_kv_pool_cls("mha")
        platform.get_dispatch_key_name()
    assert told in asked.cause(ZeroDivisionError(text))
    platform.get_dispatch_key_name()
    assert len(asked.answers) == 2


def test_error_is_put_down_to_the_class_that_raised_it(platform: Any) -> None:
    with blaming.asking() as asked, pytest.raises(AttributeError) as caught:
        platform.get_kv_pool_cls("mha")(np.zeros(1))
    told = finding(asked.tell, caught.value, "serving")
    assert told["cause"] == "SGLang uses the class Pool, which platform.get_kv_pool_cls() gave"
    assert told["where"].endswith("vendors_platform.py:4")


def test_platform_that_cannot_be_watched_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blaming, "_platform", lambda: 3)
    with blaming.asking() as asked:
        pass
    assert asked.cause(ValueError("no")) == ""
