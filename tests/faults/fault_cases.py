"""Tables of cases: a few of them in the default run, more in the slow one, all of them where that is asked for."""

import random
from typing import Any

import pytest


def sample(cases: list[Any], every: int, often: int = 1) -> list[Any]:
    """One of ``every`` cases in the default run, one of ``often`` in the slow one too; the rest are ``exhaustive``.

    Which ones is drawn by a fixed seed: in a table of products, each n-th case would be of the same few kinds.
    """
    drawn = random.Random(0).sample(range(len(cases)), len(cases))
    marks = [
        []
        if place * every < len(cases)
        else [pytest.mark.slow if place * often < len(cases) else pytest.mark.exhaustive]
        for place in drawn
    ]
    return [pytest.param(*case, marks=mark) for case, mark in zip(cases, marks, strict=True)]
