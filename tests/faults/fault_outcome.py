"""What a fault may come to: the same result, another one with a notice, or one sentence and an exit code."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from fuzz_box import Said, say
from lorate.jsonl import read_jsonl
from training_runs import adapter_bytes, evaluations, metrics

Tree = dict[str, Any]


def tree(folder: Path) -> Tree:
    """Every name below a folder, and what is there."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = "directory" if path.is_dir() else "special"
    return found


class Place:
    """A copy of a run between files of somebody else, which nobody may touch.

    Args:
        folder: where.
        original: the run to copy.
    """

    def __init__(self, folder: Path, original: Path) -> None:
        self.folder = folder
        self.outside = folder / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "notes.txt").write_text("not yours")
        self.run = Path(shutil.copytree(original, folder / "run"))

    def strangers(self) -> Tree:
        """What must stay as it is: everything outside the run, and what lies in it that lorate did not write."""
        inside = {name: what for name, what in tree(self.run).items() if name.endswith("thesis.tex")}
        return {**tree(self.outside), **inside}


def said_in_one_sentence(said: Said) -> None:
    """A reason in one line, after at most notices and the names of phases."""
    assert "Traceback (most recent" not in said.err + said.out, said
    reasons = re.findall(r"^lorate: .+$", said.err, flags=re.MULTILINE)
    assert len(reasons) == 1 and said.err.endswith(reasons[0] + "\n"), said
    assert 20 < len(reasons[0]) < 1500, said


def judged(said: Said, run: Path, whole: Path) -> str:
    """``refused``, ``noticed`` or ``same``; a change that nobody was told of is an AssertionError."""
    if said.code != 0:
        assert said.code in (1, 2), said
        said_in_one_sentence(said)
        return "refused"
    if "Notice:" in said.err:
        return "noticed"
    difference = [name for name, same in compared(run, whole).items() if not same]
    assert not difference, f"changed without a word: {difference}"
    return "same"


def compared(run: Path, whole: Path) -> dict[str, bool]:
    """Whether each result of a run is that of the run that was left alone."""
    ours, theirs = (json.loads((path / "run.json").read_text()) for path in (run, whole))
    names = ("rule", "config", "model", "data", "plan", "result", "adapters", "processes", "device", "format")
    config = {name: value for name, value in ours["config"].items() if theirs["config"][name] != value}
    return {
        "status": ours["status"] == "finished",
        "metrics": metrics(run) == metrics(whole),
        "evaluations": evaluations(run) == evaluations(whole),
        "adapter": adapter_bytes(run) == adapter_bytes(whole),
        "samples": (run / "samples.json").read_text() == (whole / "samples.json").read_text(),
        "setting": _setting(run) == _setting(whole) or _setting(run)["mixed"],  # which no certificate passes over
        "layers": _layers(run) == _layers(whole),
        **{f"run.json {name}": ours.get(name) == theirs.get(name) for name in names},
        "config.yaml": not config,
    }


def _setting(run: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((run / "setting.json").read_text())
    return facts


def _layers(run: Path) -> list[Any]:
    """Norms of each layer; the last step of a session has a line of its own, and windows begin with a session."""
    return [record for record in read_jsonl(run / "layers.jsonl").records if record.get("step", 1) == 1]


def resumed(place: Place) -> Said:
    return say(["train", "--output", str(place.run), "--resume"])
