import json
from typing import Any

import pytest

from optim.trajectories import CASES, REFERENCE, plain, trajectory

KNOWN: dict[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rounds_alike() -> bool:
    """Whether this machine rounds as the one that made the reference."""
    return plain() == KNOWN["plain"]


def test_every_case_has_a_reference() -> None:
    assert list(KNOWN["rules"]) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_are_those_of_the_reference(name: str, rounds_alike: bool) -> None:
    found, known = trajectory(CASES[name]), KNOWN["rules"][name]
    if rounds_alike:
        assert found == known  # bit for bit
        return
    for step, (one, other) in enumerate(zip(found, known, strict=True)):
        assert one["skipped"] == other["skipped"], step
        for key in ("loss", "eta", "length"):
            assert float.fromhex(one[key]) == pytest.approx(float.fromhex(other[key]), rel=1e-6), (step, key)
