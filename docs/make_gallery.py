"""Write the gallery of the documentation from the run directories of full experiments.

``python docs/make_gallery.py`` copies figures, claims and numbers of every finished ``runs/NAME`` into
``docs/gallery/NAME``, writes a page for each, names the pages in properdocs.yml and writes the verdicts into
docs/papers.md. What has no run directory keeps what it has. ``make gallery`` does the missing runs first.

``python docs/make_gallery.py NAME`` judges the committed results of an experiment again by its present claims, and
draws nothing. Claims that need a list that was cut are refused with a sentence, and nothing is changed.
"""

import html
import json
import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from verdicts import filled

from lorate.errors import LorateError
from lorate.report.words import duration, listing
from lorate.runs import write_atomically
from lorate.runs.strict_json import encode
from lorate_papers.experiments import EXPERIMENTS, Claim, Options, load_experiment
from lorate_papers.experiments.runner import tally

ROOT = Path(__file__).parent.parent
GALLERY = ROOT / "docs" / "gallery"
NOTE = "<!-- docs/make_gallery.py writes this page: do not edit it -->"
LONGEST = 24
"""Longer lists of results are left out of the documentation, but for their ends."""
FIGURE = ("name", "title", "caption", "description")
TALLY = {"holds": "hold", "does not hold": "do not hold", "not testable here": "not testable here"}
"""Verdicts on one claim and on several."""


def main(runs: Path, gallery: Path, configuration: Path, papers: Path) -> None:
    """Collect what is in ``runs``, then rewrite all pages."""
    for name in EXPERIMENTS:
        if (trouble := incomplete(runs / name, name)) is None:
            collect(runs / name, name, gallery / name)
        print(f"{name}: {trouble or 'collected'}")
    gallery.mkdir(parents=True, exist_ok=True)
    for file, text in pages(gallery).items():
        write_atomically(gallery / file, text)
    write_atomically(configuration, in_navigation(configuration.read_text(encoding="utf-8"), gallery))
    write_atomically(papers, filled(papers.read_text(encoding="utf-8"), gallery))


def incomplete(run: Path, name: str) -> str | None:
    """Why a directory is not a finished full run of an experiment; None if it is one."""
    if not (run / "run.json").is_file():
        return f"no {run}: run lorate reproduce {name}"
    info = _read(run / "run.json")
    if info["config"] != {"experiment": name, "quick": False, "seed": 0}:
        return f"{run} holds something else: {info['command']}"
    return None if info["status"] == "finished" else f"{run} is not finished: run lorate reproduce {name}"


def collect(run: Path, name: str, folder: Path) -> None:
    """Replace what the documentation holds of an experiment by what a run directory holds.

    Args:
        run: of a finished run.
        name: of the experiment.
        folder: gets ``claims.json``, ``results.json`` and an SVG for each figure.
    """
    records = [json.loads(line) for line in (run / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    info = _read(run / "run.json")
    results = {record["run"]: record["result"] for record in records}
    experiment = load_experiment(name)
    drawings = experiment.drawings(results, Options(quick=info["config"]["quick"]))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(run / "claims.json", folder)
    for drawing in drawings:
        shutil.copy(run / "figures" / f"{drawing.name}.svg", folder)
    facts = {
        "title": experiment.title,
        "summary": experiment.summary,
        "run": info,
        "figures": [{key: getattr(drawing, key) for key in FIGURE} for drawing in drawings],
        "results": compact(results),
    }
    write_atomically(folder / "results.json", _lines(facts))


class CutList(Sequence[Any]):
    """Stands for a long list of which `compact` left the ends; whoever looks into it is refused."""

    def __init__(self, length: int) -> None:
        self._length = length

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise LorateError(f"a claim needs a list of {self._length} numbers, of which only the ends are committed")

    __getitem__ = __len__ = __iter__ = __array__ = _refuse


def judge_again(folder: Path) -> None:
    """Decide the claims of a committed experiment by the present code, from its committed results.

    Raises:
        LorateError: the claims need more than was committed, or a run that the experiment did not have then.
    """
    experiment, facts = load_experiment(folder.name), _read(folder / "results.json")
    try:
        claims = experiment.judged(experiment.claims(_uncut(facts["results"]), Options()))
    except KeyError as error:
        raise LorateError(f"a claim needs a result {error} that is not committed") from error
    facts["run"]["result"] = {"runs": len(facts["results"]), **tally(claims)}
    write_atomically(folder / "claims.json", encode([asdict(claim) for claim in claims], indent=2) + "\n")
    write_atomically(folder / "results.json", _lines(facts))


def _uncut(value: Any) -> Any:
    """Committed results, with a `CutList` for each list that was cut."""
    if isinstance(value, Mapping):
        if value.keys() == {"length", "first", "last"}:
            return CutList(value["length"])
        return {key: _uncut(entry) for key, entry in value.items()}
    return [_uncut(entry) for entry in value] if isinstance(value, list) else value


def compact(value: Any) -> Any:
    """The same with six digits a number, and of each long list only its length and its ends."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: compact(entry) for key, entry in value.items()}
    if isinstance(value, list) and len(value) > LONGEST:
        return {"length": len(value), "first": compact(value[0]), "last": compact(value[-1])}
    return [compact(entry) for entry in value] if isinstance(value, list) else value


def pages(gallery: Path) -> dict[str, str]:
    """The text of every page by its file name; made from the collected files alone."""
    shown = {name: experiment_page(gallery / name) for name in _collected(gallery)}
    return {"index.md": index_page(gallery, shown), **{f"{name}.md": text for name, text in shown.items()}}


def experiment_page(folder: Path) -> str:
    """Claims and figures of one experiment."""
    name, claims, found = folder.name, _claims(folder), _read(folder / "results.json")
    run = found["run"]
    lines = [
        NOTE,
        "",
        f"# {found['title']}",
        "",
        found["summary"],
        "",
        f"`{run['command']}` (lorate {run['lorate']}, torch {run['versions']['torch']}, {run['finished'][:10]}): "
        f"{run['result']['runs']} runs, {duration(run['seconds'])} of work on the {run['device'].upper()}. "
        f"{_tally(claims)}. Files: [claims.json]({name}/claims.json), [results.json]({name}/results.json), in which of "
        "long lists only the ends are kept.",
        "",
        "## Claims",
        "",
        "| verdict | claim | what decides it | protocol |",
        "|---|---|---|---|",
        *(
            f"| {claim.verdict} | {_cell(claim.claim)} | {_cell(claim.value)} | {_cell(claim.protocol)} |"
            for claim in claims
        ),
    ]
    for figure in found["figures"]:
        picture = f"![{_alternative(figure['description'])}]({name}/{figure['name']}.svg){{ width=560 }}"
        lines += ["", f"## {figure['title'].rstrip('.')}", "", picture, "", html.escape(figure["caption"], quote=False)]
    return "\n".join([*lines, ""])


def index_page(gallery: Path, shown: Collection[str]) -> str:
    """What there is, and the command that makes the rest."""
    lines = [
        NOTE,
        "",
        "# Gallery of experiments",
        "",
        "Each experiment is one command. It draws its figures and decides its claims by numbers: each claim *holds*, "
        "*does not hold*, or is *not testable* with these runs. All pages show full runs with seed 0. `--quick` is a "
        "short form of less than a minute. `make gallery` does the runs that are missing and writes these pages. "
        "The column *protocol* says what differs from the paper's own experiment: a claim that does not hold here "
        "may hold there. The time in brackets is the work for one core; several cores share it.",
        "",
    ]
    for name in EXPERIMENTS:
        if name in shown:
            lines += _entry(gallery / name)
        else:
            lines += [f"## {name}", "", f"`lorate reproduce {name}`: not run yet.", ""]
    return "\n".join(lines)


def _entry(folder: Path) -> list[str]:
    """One experiment on the index: its first figure links to its page, which describes it in full."""
    results = _read(folder / "results.json")
    figure, work = results["figures"][0], duration(results["run"]["seconds"])
    picture = f"![{_alternative(figure['title'])}]({folder.name}/{figure['name']}.svg){{ width=380 }}"
    return [
        f"## [{_cell(_title(folder))}]({folder.name}.md)",
        "",
        f"`lorate reproduce {folder.name}` ({work}): {_tally(_claims(folder))}.",
        "",
        f"[{picture}]({folder.name}.md)",
        "",
    ]


def in_navigation(configuration: str, gallery: Path) -> str:
    """The text of properdocs.yml with a line for each page, instead of the old lines for the gallery."""
    entries = ["Gallery: gallery/index.md"]
    entries += [
        f"{json.dumps(_title(gallery / name), ensure_ascii=False)}: gallery/{name}.md" for name in _collected(gallery)
    ]
    block = "".join(f"      - {entry}\n" for entry in entries)
    return re.sub(r"(?: +- .*: gallery/.*\n)+", lambda _: block, configuration, count=1)


def _collected(gallery: Path) -> list[str]:
    return [name for name in EXPERIMENTS if (gallery / name / "results.json").is_file()]


def _claims(folder: Path) -> list[Claim]:
    found = [Claim(**claim) for claim in _read(folder / "claims.json")]
    return load_experiment(folder.name).judged(found)


def _title(folder: Path) -> str:
    return str(_read(folder / "results.json")["title"])


def _tally(claims: Sequence[Claim]) -> str:
    verdicts = [claim.verdict for claim in claims]
    counts = [(verdicts.count(one), one, several) for one, several in TALLY.items()]
    return listing([f"{count} {one if count == 1 else several}" for count, one, several in counts if count])


def _lines(facts: Mapping[str, Any]) -> str:
    """JSON with a line for each entry, and for each entry of the entries."""
    entries = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            inner = ",\n".join(f"  {encode(name)}: {encode(entry)}" for name, entry in value.items())
            entries.append(f"{encode(key)}: {{\n{inner}\n}}")
        else:
            entries.append(f"{encode(key)}: {encode(value)}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|")


def _alternative(text: str) -> str:
    return text.replace("[", "(").replace("]", ")").replace("\n", " ")


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(_collected(GALLERY)):
        sys.exit(f"No committed results of {', '.join(sorted(unknown))}: it takes names of docs/gallery, or nothing.")
    for name in sys.argv[1:]:
        try:
            judge_again(GALLERY / name)
        except LorateError as error:
            sys.exit(f"{name} cannot be judged again: {error}. Run lorate reproduce {name}, then this without a name.")
    main(ROOT / "runs", GALLERY, ROOT / "properdocs.yml", ROOT / "docs" / "papers.md")
