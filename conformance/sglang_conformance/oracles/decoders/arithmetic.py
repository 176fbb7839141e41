"""The operators of a decoder on plain arrays of float64: tokens are rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


# From some such number of products on, numpy's library would take several threads, and lose more than it wins where
# all cores are busy.
_PRODUCTS = 1 << 18


def projected(values: Array, weight: Array) -> Array:
    """Each row ``[token, input]`` times a weight ``[output, input]``."""
    rows = max(1, _PRODUCTS // weight.size)
    even = len(values) // rows * rows
    parts = np.matmul(values[:even].reshape(-1, rows, values.shape[1]), weight.T)
    return np.concatenate([parts.reshape(even, len(weight)), values[even:] @ weight.T])


def normed(values: Array, weight: Array, eps: float) -> Array:
    """Each row over the root of its mean square, times the weight."""
    scaled: Array = values / np.sqrt(np.mean(values * values, axis=-1, keepdims=True) + eps) * weight
    return scaled


def activated(values: Array) -> Array:
    """The sigmoid-weighted first half of each row, times the second half."""
    gate, up = np.split(values, 2, axis=-1)
    product: Array = gate / (1.0 + np.exp(-gate)) * up
    return product


def softmax(scores: Array) -> Array:
    """Of the last axis; where a score is minus infinity, zero."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def rotated(values: Array, positions: Array, theta: float, *, paired: bool) -> Array:
    """Vectors ``[token, head, width]`` turned by their token's position, two numbers at a time.

    The two are neighbours if ``paired``, else half a width apart; the i-th two turn by theta to the power of
    ``-2 i / width`` for each position.
    """
    width = values.shape[-1]
    angles = positions[:, None, None] * theta ** (-np.arange(0, width, 2) / width)
    cos, sin = np.cos(angles), np.sin(angles)
    turned = np.empty_like(values)
    firsts, seconds = (
        (np.s_[..., 0::2], np.s_[..., 1::2]) if paired else (np.s_[..., : width // 2], np.s_[..., width // 2 :])
    )
    first, second = values[firsts], values[seconds]
    turned[firsts] = first * cos - second * sin
    turned[seconds] = second * cos + first * sin
    return turned


def attended(queries: Array, keys: Array, values: Array, scale: float) -> Array:
    """What the last tokens ``[token, head, width]`` of a sequence take of its values, each as far as itself.

    Each key head serves as many query heads, one after another.
    """
    tokens, heads, width = queries.shape
    # [key head, query head of it, token, ...]
    grouped = queries.reshape(tokens, keys.shape[1], -1, width).transpose(1, 2, 0, 3)
    scores = grouped @ keys.transpose(1, 2, 0)[:, None] * scale
    later = np.triu(np.ones((tokens, len(keys)), dtype=bool), 1 + len(keys) - tokens)
    taken = softmax(np.where(later, -np.inf, scores)) @ values.transpose(1, 0, 2)[:, None]
    together: Array = taken.transpose(2, 0, 1, 3).reshape(tokens, heads, -1)
    return together
