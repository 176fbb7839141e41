from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sglang_conformance.suite.aids import models
from sglang_conformance.suite.aids.host_torch import computed, differing
from sglang_conformance.suite.expect import NotCovered, Violation

SHAPE = models.Shape(5, 4, 3)
CPU = torch.device("cpu")


class Platform:
    """A platform that does this to a loaded model."""

    def __init__(self, act: Callable[[Any], Any]) -> None:
        self.act = act

    def post_load_model(self, model: Any) -> Any:
        return self.act(model)


@pytest.mark.parametrize("act", [lambda m: m.model.layers, lambda m: m.quant_config, lambda m: m.config.torch_dtype])
def test_what_only_real_models_have_is_not_covered(act: Callable[[Any], Any]) -> None:
    with pytest.raises(NotCovered, match="the kit's small model does not have"):
        models.hand_over(Platform(act), models.loaded(SHAPE, CPU))


@pytest.mark.parametrize("act", [lambda m: m.norm.fused, lambda m: 1 / 0])
def test_other_errors_are_the_platforms(act: Callable[[Any], Any]) -> None:
    with pytest.raises(Violation):
        models.hand_over(Platform(act), models.loaded(SHAPE, CPU))


def test_a_model_left_alone_is_as_it_should_be() -> None:
    model = models.loaded(SHAPE, CPU)
    models.computes(model, SHAPE, CPU, call="", where="")
    assert models.are_tied(model)
    assert models.without_loader(model) == []
    assert model.state_dict().keys() > {"offset", "scale", *models.TIED}
    models.loads_again(model, call="", where="")


def test_all_of_its_weights_differ() -> None:
    values = [value for p in models.loaded(SHAPE, CPU).parameters() for value in p.flatten().tolist()]
    assert len(set(values)) == len(values) > 50


def test_a_change_of_any_parameter_shows() -> None:
    for name in dict(models.loaded(SHAPE, CPU).named_parameters()):
        model = models.loaded(SHAPE, CPU)
        model.get_parameter(name).data.neg_()
        with pytest.raises(Violation, match="within"):
            models.computes(model, SHAPE, CPU, call="", where="")


def test_what_torch_computes_differs_by_what_was_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    before = computed()
    assert differing(before, computed()) == []
    monkeypatch.setattr(torch, "multinomial", lambda shares, number: torch.topk(shares, number).indices)
    assert differing(before, computed()) == ["torch.multinomial"]


def test_what_torch_computes_leaves_its_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    computed()
    assert torch.rand(3).tolist() == expected
