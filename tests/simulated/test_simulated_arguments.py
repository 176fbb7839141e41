"""What operators are called with: values, and lists of them."""

from __future__ import annotations

import torch

from sglang_simulated.arguments import changed, changed_by_name, leaves


def test_leaves_stand_in_their_order() -> None:
    assert leaves((1, [2, (3, None)], [], "four")) == [1, 2, 3, None, "four"]


def test_lists_and_tuples_stay_what_they_are() -> None:
    assert changed(lambda value: value * 2, (1, [2, (3,)], torch.Size([4]))) == (2, [4, (6,)], (8,))


def test_names_stay_with_their_values() -> None:
    assert changed_by_name(lambda value: -value, {"one": 1, "more": [2, 3]}) == {"one": -1, "more": [-2, -3]}
    assert changed_by_name(lambda value: -value, {}) == {}
