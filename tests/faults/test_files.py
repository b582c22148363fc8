"""Every file of a run, damaged in every way: ``--resume``, ``report``, ``certify`` and ``--force`` meet it."""

from pathlib import Path

import pytest
from fault_cases import sample
from fault_damage import ON_ANY, ON_FILES
from fault_outcome import Place, judged, resumed, said_in_one_sentence

from fuzz_box import say
from lorate.errors import LorateError
from lorate.report import page
from lorate.runs import RunDirectory

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

LAST, BEFORE = "checkpoints/checkpoint-6", "checkpoints/checkpoint-4"
FILES = (
    *("run.json", "config.yaml", "metrics.jsonl", "layers.jsonl", "eval.jsonl", "before.json", "setting.json", ".lock"),
    *("README.md", "report.html", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"),
    *(f"{LAST}/{name}" for name in ("manifest.json", "trainer_state.json", "optimizer.pt", "scheduler.pt")),
    *(f"{LAST}/{name}" for name in ("rng_state.pth", "adapter_model.safetensors", "adapter_config.json")),
    *(f"{LAST}/training_args.bin", f"{BEFORE}/manifest.json", f"{BEFORE}/optimizer.pt"),
)
FOLDERS = ("adapter", "checkpoints", LAST, BEFORE)
DAMAGES = {**ON_ANY, **ON_FILES}
CASES = [(file, kind) for file in FILES for kind in DAMAGES] + [(folder, kind) for folder in FOLDERS for kind in ON_ANY]
READ = ("run.json", "config.yaml", "metrics.jsonl", "layers.jsonl", "eval.jsonl", "setting.json", "samples.json")
DRAWN = ("metrics.jsonl", "layers.jsonl", "eval.jsonl")
SHOWN = [(file, kind) for file in (*READ, "report.html", f"{LAST}/manifest.json") for kind in DAMAGES]


@pytest.mark.fault("a damaged file, resumed")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("file", "kind"), sample(CASES, 60, 6))
def test_resume_meets_damage(file: str, kind: str, runs: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, runs / "cut")
    DAMAGES[kind](place.run / file, place.outside)
    before = place.strangers()
    judged(resumed(place), place.run, runs / "whole")
    assert place.strangers() == before


@pytest.mark.fault("a damaged file, shown")
@pytest.mark.parametrize("command", ["report", "certify"])
@pytest.mark.parametrize(("file", "kind"), sample(SHOWN, 40, 8))
def test_the_report_and_the_certificate_meet_damage(
    file: str, kind: str, command: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file not in DRAWN:  # a second a figure
        monkeypatch.setattr(page, "inline_svg", lambda *_: "<svg></svg>")
    place = Place(tmp_path, runs / "whole" if file == "samples.json" else runs / "cut")
    target = place.run / file.replace("-6", "-8" if file == "samples.json" else "-6")
    DAMAGES[kind](target, place.outside)
    before = place.strangers()
    said = say([command, str(place.run)])
    assert said.code in (0, 1, 2)
    if said.code and not (command == "certify" and said.out.strip()):
        said_in_one_sentence(said)
    assert place.strangers() == before


@pytest.mark.fault("a damaged file, replaced by --force")
@pytest.mark.parametrize(("file", "kind"), sample(CASES, 20))
def test_force_meets_damage(file: str, kind: str, runs: Path, tmp_path: Path) -> None:
    """It deletes the run, or says why not and deletes nothing."""
    place = Place(tmp_path, runs / "cut")
    DAMAGES[kind](place.run / file, place.outside)
    before = place.strangers()
    names = sorted(place.run.rglob("*"))
    try:
        RunDirectory.create(place.run, force=True)
    except LorateError as error:
        assert "\n" not in str(error) and sorted(place.run.rglob("*")) in (names, sorted([*names, place.run / ".lock"]))
    else:
        assert [path.name for path in place.run.iterdir()] in ([], [".lock"])
    assert place.strangers() == before
