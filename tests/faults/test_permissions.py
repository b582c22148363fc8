"""Every file and folder of a run without a permission: the same outcomes as for other damage."""

import itertools
from pathlib import Path

import pytest
from fault_cases import sample
from fault_outcome import Place, judged, resumed, said_in_one_sentence
from fault_rights import MODES, can_be_taken, without
from test_files import FILES, FOLDERS

from fuzz_box import say

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

CASES = list(itertools.product((*FILES, *FOLDERS, "."), MODES))


@pytest.fixture(autouse=True)
def permissions(tmp_path: Path) -> None:
    if not can_be_taken(tmp_path):
        pytest.skip("permissions bind nobody here")


@pytest.mark.fault("a file without permission, resumed")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("file", "mode"), sample(CASES, 12))
def test_resume_meets_missing_permissions(file: str, mode: str, runs: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, runs / "cut")
    before = place.strangers()
    with without(place.run / file, MODES[mode]):
        said = resumed(place)
    judged(said, place.run, runs / "whole")
    assert place.strangers() == before
    if said.code:  # nothing was lost: once the permission is back, the run goes on
        assert judged(resumed(place), place.run, runs / "whole") != "refused"


@pytest.mark.fault("a file without permission, shown")
@pytest.mark.parametrize("command", ["report", "certify"])
@pytest.mark.parametrize(("file", "mode"), sample(CASES, 25, 6))
def test_the_report_and_the_certificate_meet_missing_permissions(
    file: str, mode: str, command: str, runs: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path, runs / "cut")
    with without(place.run / file, MODES[mode]):
        said = say([command, str(place.run)])
    assert said.code in (0, 1, 2)
    if said.code and not (command == "certify" and said.out.strip()):
        said_in_one_sentence(said)


@pytest.mark.fault("a file without permission, replaced by --force")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("file", "mode"), sample(CASES, 12, 2))
def test_force_meets_missing_permissions(file: str, mode: str, runs: Path, tmp_path: Path) -> None:
    """The run is replaced by one with the same numbers, or left as it was."""
    place = Place(tmp_path, runs / "cut")
    options = tmp_path / "options.yaml"
    options.write_text((place.run / "config.yaml").read_text())
    names = {path for path in place.run.rglob("*") if path.name != ".lock"}
    with without(place.run / file, MODES[mode]):
        said = say(["train", "--config", str(options), "--output", str(place.run), "--force"])
    if judged(said, place.run, runs / "whole") == "refused":
        assert {path for path in place.run.rglob("*") if path.name != ".lock"} == names
