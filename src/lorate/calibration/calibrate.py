"""Sweep, fit the law, and write down which alpha to take and how sure that is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import lorate
from lorate.calibration.halving import Halving, Row
from lorate.calibration.plan import Sweep
from lorate.errors import LorateError
from lorate.extras import require, require_extra
from lorate.report import save_figure
from lorate.report.scaling_map import scaling_figure
from lorate.runs import write_atomically
from lorate.runs.facts import now, versions
from lorate.runs.strict_json import encode
from lorate.scaling.power_law import ScalingFit, fit_scaling
from lorate.sweep import PACKAGES, Progress, Run, SweepFolder, run_missing


@dataclass(frozen=True)
class Calibration:
    """What a sweep found.

    Attributes:
        lr: the learning rate with the lowest loss, of those whose sweep could be fitted.
        fit: the law at that learning rate.
        folder: where everything lies: ``alpha.json``, the heat maps in ``figures/``, one file a run in ``finished/``.
        content: of ``alpha.json``.
        seconds: of this call.
    """

    lr: float
    fit: ScalingFit
    folder: SweepFolder
    content: Mapping[str, Any]
    seconds: float


def calibrate(
    sweep: Sweep, output: Path, *, jobs: int | None = None, command: str = "", progress: Progress | None = None
) -> Calibration:
    r"""Find the best ``lora_alpha`` of several ranks on a model and data, and the law through them.

    See `lorate.calibration.halving` for which runs are made and `lorate.scaling.power_law.fit_scaling` for the fit.
    Finished runs are not repeated: the same call goes on where it was interrupted, and one with more ranks, alphas,
    learning rates or seeds adds to it.

    Args:
        sweep: what to try.
        output: directory; made, or gone on with if it holds a calibration of the same task.
        jobs: processes; by default one a core, and a single one where there is an accelerator.
        command: how to repeat it, for ``run.json``.
        progress: called with the runs done, their number, and the name of the last one.

    Raises:
        LorateError: ``output`` holds something else, every run diverged, or too few ranks have their best alpha inside
            the grid.
        MissingExtraError: joblib, matplotlib, jinja2, PEFT or transformers is not installed.
    """
    require_extra("report")
    require("peft", extra="hf")
    began = time.monotonic()
    jobs = _processes(sweep) if jobs is None else jobs
    if jobs is not None and jobs < 1:
        raise LorateError(f"jobs must be at least 1, got {jobs}.")
    folder = SweepFolder.make_or_resume(output, sweep.identity)
    info = {"lorate": lorate.__version__, "command": command, "started": now(), "versions": versions(PACKAGES)}
    info |= {"config": sweep.identity, "status": "running"}
    with folder.in_use():
        folder.write_run(info)
        try:
            lr, fit, content = _find(sweep, folder, jobs, progress)
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            folder.write_run(info | {"status": status})
            raise
        seconds = time.monotonic() - began
        folder.write_run(info | {"status": "finished", "finished": now(), "seconds": seconds})
    return Calibration(lr, fit, folder, content, seconds)


def _find(
    sweep: Sweep, folder: SweepFolder, jobs: int | None, progress: Progress | None
) -> tuple[float, ScalingFit, dict[str, Any]]:
    def execute(runs: Sequence[Run]) -> dict[str, Any]:
        records, _ = run_missing(runs, folder, jobs, progress)
        return {name: record["result"] for name, record in records.items()}

    trained = Halving(sweep, execute).run()
    fits: dict[float, ScalingFit] = {}
    faults: list[LorateError] = []
    for lr in sweep.lrs:
        losses: dict[int, Row] = {rank: trained[lr, rank] for rank in sweep.ranks}
        try:
            fits[lr] = fit_scaling(losses, sweep.seed)
        except LorateError as error:
            faults.append(error)
        figure = scaling_figure(losses, fits.get(lr))
        save_figure(figure, folder.inside("figures/alpha" if len(sweep.lrs) == 1 else f"figures/alpha-lr-{lr:g}"))
    if not fits:
        raise faults[0]
    best = min(fits, key=lambda lr: min(one.loss for one in fits[lr].best.values()))
    content = _content(sweep, best, fits, trained)
    write_atomically(folder.inside("alpha.json"), encode(content, indent=2) + "\n")
    return best, fits[best], content


def _content(
    sweep: Sweep, best: float, fits: Mapping[float, ScalingFit], trained: Mapping[tuple[float, int], Row]
) -> dict[str, Any]:
    return {
        **_of_fit(fits[best], sweep.ranks),
        "lr": best,
        "steps": sweep.steps,
        "optimizer": "AdamW",
        "task": sweep.identity,
        "by_lr": {f"{lr:g}": _of_fit(fit, sweep.ranks) for lr, fit in fits.items()},
        "losses": [
            {"lr": lr, "rank": rank, "alpha": alpha, "losses": losses}
            for (lr, rank), row in trained.items()
            for alpha, losses in sorted(row.items())
        ],
    }


def _of_fit(fit: ScalingFit, ranks: Sequence[int]) -> dict[str, Any]:
    names = ("rank", "alpha", "low", "high")
    return {
        "c": fit.c,
        "c_interval": fit.c_interval,
        "exponent": fit.exponent,
        "interval": fit.interval,
        "contains_half": fit.contains_half,
        "fitted_coefficient": fit.coefficient,
        "recommended": [dict(zip(names, (r, *fit.recommended(r)), strict=True)) for r in ranks],
        "best": [{"rank": rank, **asdict(one)} for rank, one in fit.best.items()],
    }


def _processes(sweep: Sweep) -> int | None:
    """One model at a time on an accelerator; elsewhere one per core."""
    return 1 if sweep.own.get("device") != "cpu" and torch.accelerator.is_available() else None
