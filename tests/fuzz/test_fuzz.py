"""Any input ends in success or in one sentence, nothing is written beside the run; benchmarks/fuzz.py tries more."""

from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_is_survived(name: str, tmp_path: Path, llama_dir: Path) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=target.few, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(target.inputs)
    def survives(case: object) -> None:
        target.check(case, tmp_path, llama_dir)

    survives()
