"""Tables of cases: a part of them in the default run, all of them in the slow one."""

from typing import Any

import pytest


def sample(cases: list[Any], every: int) -> list[Any]:
    """Every so many case in the default run, all of them in the slow one."""
    return [
        pytest.param(*case, marks=[] if place % every == 0 else [pytest.mark.slow]) for place, case in enumerate(cases)
    ]
