"""Run an experiment: what is finished stays, the rest goes to several processes, and the report comes last."""

import shlex
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lorate
from lorate.errors import LorateError
from lorate.extras import require_extra
from lorate.report import save_figure
from lorate.runs import write_atomically
from lorate.runs.facts import now, versions
from lorate.runs.strict_json import encode
from lorate.sweep import PACKAGES, Progress, SweepFolder, run_missing
from lorate_papers.experiments import load_experiment
from lorate_papers.experiments.experiment import Claim, Drawing, Experiment, Options, Results
from lorate_papers.experiments.inputs import check_unchanged, fingerprints
from lorate_papers.experiments.page import write_page

LARGEST_SEED = 4_000_000
"""A thousand starts of each must fit into the 32 bits of NumPy's global generator."""

DECIDING = ("torch", "numpy", "scipy", "transformers", "peft")
"""Packages on which results may depend; another version of lorate is refused."""


@dataclass(frozen=True)
class Reproduction:
    """A finished experiment."""

    claims: Sequence[Claim]  # with their verdicts
    folder: SweepFolder  # where everything lies
    repeated: int  # runs done this time; the others were finished already
    seconds: float  # time of this call


def reproduce(
    name: str,  # of the experiment, see `lorate_papers.experiments.EXPERIMENTS`
    output: Path,  # directory; made, or gone on with if it holds the same experiment with the same options
    options: Options | None = None,  # the full experiment with seed 0 if not given
    *,
    jobs: int | None = None,  # processes; one a core if not given. More than one needs joblib
    progress: Progress | None = None,  # called with the runs done, their number, and the name of the last one
    warn: Callable[[str], object] = warnings.warn,  # called with a sentence if finished runs had other packages
) -> Reproduction:
    """Run an experiment, or what is missing of it, and write figures, claims and the report.

    Raises:
        LorateError: no such experiment, a seed or jobs out of range, ``output`` holds something else, the experiment
            has no other data or model than its own and was given some, or these are missing or have changed.
        MissingExtraError: joblib, matplotlib or jinja2 is not installed.
    """
    options = options or Options()
    experiment = load_experiment(name)
    if jobs is not None and jobs < 1:
        raise LorateError(f"jobs must be at least 1, got {jobs}.")
    if not 0 <= options.seed <= LARGEST_SEED:
        raise LorateError(f"seed must lie between 0 and {LARGEST_SEED:,}, got {options.seed}.")
    require_extra("report")
    given = _given(options)
    for word in given:
        if word not in experiment.takes:
            raise LorateError(f"The experiment {name!r} has no other {word}: leave --{word} out.")
    inputs = fingerprints(given)
    config = {"experiment": name, "quick": options.quick, "seed": options.seed, **given}
    folder = SweepFolder.make_or_resume(output, config)
    with folder.in_use():
        noted = _noted(folder, given, inputs, warn)
        return _reproduce(experiment, folder, options, jobs, {"config": config, **noted}, progress)


def _noted(
    folder: SweepFolder, given: Mapping[str, str], inputs: Mapping[str, Any], warn: Callable[[str], object]
) -> dict[str, Any]:
    """What ``run.json`` says of the inputs and packages, which are held against those of the finished runs."""
    noted: dict[str, Any] = {"versions": versions(PACKAGES), **({"inputs": inputs} if inputs else {})}
    if not any(folder.path.glob("finished/*.json")):
        return noted
    before = folder.read_run()
    check_unchanged(given, inputs, before.get("inputs"), folder.path)
    then, earlier = before.get("versions", {}), before.get("earlier_versions", [])
    changed = [name for name in DECIDING if then.get(name, noted["versions"].get(name)) != noted["versions"].get(name)]
    if changed:
        had, has = (", ".join(f"{name} {found.get(name)}" for name in changed) for found in (then, noted["versions"]))
        warn(f"{folder.path} was begun with {had}; what is done now uses {has}.")
        earlier = [*earlier, then]
    return {**noted, **({"earlier_versions": earlier} if earlier else {})}


def _reproduce(
    experiment: Experiment,
    folder: SweepFolder,
    options: Options,
    jobs: int | None,
    noted: Mapping[str, Any],
    progress: Progress | None,
) -> Reproduction:
    began = time.monotonic()
    info: dict[str, Any] = {
        "lorate": lorate.__version__,
        "command": _command(noted["config"]["experiment"], options),
        "status": "running",
        "started": now(),
        "finished": None,
        "seconds": 0.0,
        "device": "cpu",
        "result": None,
        **noted,
    }
    folder.write_run(info)
    try:
        records, repeated = run_missing(experiment.runs(options), folder, jobs, progress, threads=1)
        results = {name: record["result"] for name, record in records.items()}
        drawings, claims = _conclude(experiment, folder, results, options)
        write_atomically(folder.inside("results.jsonl"), "".join(encode(record) + "\n" for record in records.values()))
        work = sum(record["seconds"] for record in records.values())
        done = {"status": "finished", "finished": now(), "seconds": work}
        done["result"] = {"runs": len(records), **tally(claims)}
        write_page(folder.report, experiment, drawings, claims, info | done)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        folder.write_run(info | {"status": status, "seconds": time.monotonic() - began})
        raise
    folder.write_run(info | done)
    return Reproduction(claims, folder, repeated, time.monotonic() - began)


def _conclude(
    experiment: Experiment, folder: SweepFolder, results: Results, options: Options
) -> tuple[Sequence[Drawing], Sequence[Claim]]:
    claims = experiment.judged(experiment.claims(results, options), options)
    write_atomically(folder.inside("claims.json"), encode([asdict(claim) for claim in claims], indent=2) + "\n")
    drawings = experiment.drawings(results, options)
    for drawing in drawings:
        save_figure(drawing.figure, folder.inside(f"figures/{drawing.name}"))
    return drawings, claims


def _given(options: Options) -> dict[str, str]:
    own = {"data": options.data, "model": options.model}
    return {word: value for word, value in own.items() if value is not None}


def _command(name: str, options: Options) -> str:
    words = ["lorate", "reproduce", name, *["--quick"] * options.quick]
    words += ["--seed", str(options.seed)] if options.seed else []
    for word, value in _given(options).items():
        words += [f"--{word}", value]
    return shlex.join(words)


def tally(claims: Sequence[Claim]) -> dict[str, int]:
    """How often each verdict was given."""
    verdicts = [claim.verdict for claim in claims]
    return {verdict: verdicts.count(verdict) for verdict in ("holds", "does not hold", "not testable here")}
