"""How far ``auto``, without a learning rate, ends from the best of a tuned grid.

Twelve settings, divided beforehand into six that ``auto`` was made on and six to judge it on, and six more, written
down when those were known, to judge the next ``auto`` on; three seeds, two or one with SmolLM2. On every one AdamW
runs with 8 learning rates, constant and with 5% warm-up and cosine, and so does Schedule-Free AdamW. Without a rate
to choose run: Prodigy, D-Adaptation and DoG from their own packages and as their authors advise, each in two forms of
which the better one counts; Prodigy-Plus-Schedule-Free with its defaults; AdamW with warm-up and cosine at 2e-4 and,
on language models, at the rate of a published formula, 5e-4 (2000/h)^p with h the size of the hidden states. Regret
is (held-out loss - best of the cosine grid) / best of the cosine grid, after as many steps and with the same seed. No
method has weight decay; all start from the same adapters and see the same batches. A run whose loss is not finite has
diverged, and its regret is infinite. Differences of two methods are paired by seed; their standard errors are those
of chance in the seeds.

Machines: torch 2.13 on two cores; but the rivals on the new settings (small-lm r8 a32 in part) torch 2.11 on 16 cores
of an Intel Xeon. A run on each of four of these settings, repeated, gave the same loss to the last digit; times do not
compare.

Every finished run is a file in runs/regret and is not done again, nor is one that results/regret-runs.jsonl holds. When
all are there, the results, the figure and the tables in the documentation are written; before that, what is there is
printed.

Run: python benchmarks/regret.py
     python benchmarks/regret.py --methods auto --only judge-new --again
     python benchmarks/regret.py --partial   results of what is complete, though runs are missing
     python benchmarks/regret.py --cost      extra time of auto over AdamW; needs a quiet machine
     python benchmarks/regret.py --draw      figure and tables from the committed results
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one run a core; read when torch is imported

from _record import RESULTS, record
from _regret.archive import pack, unpack
from _regret.cost import extra_costs
from _regret.figure import description, regret_figure
from _regret.methods import METHODS, TUNED
from _regret.runs import all_runs
from _regret.settings import DEVELOP, JUDGE, JUDGE_NEW, SEEDS, Setting, seeds_of
from _regret.summary import Row, grids, plain, rows, summary, written
from _regret.table import write_into
from _regret.width import LOOKS, flat, width_description, width_figure

from lorate.report.figures import rendered
from lorate.runs import write_atomically
from lorate.sweep import SweepFolder, run_missing

COMMAND = "python benchmarks/regret.py"
ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "regret"
COSTS = RUNS / "cost.json"
COMMITTED = RESULTS / "regret.json"
ARCHIVE = RESULTS / "regret-runs.jsonl"
FIGURE = ROOT / "docs" / "images" / "regret.svg"
WIDTH = ROOT / "docs" / "images" / "regret-width.svg"
SETTINGS = DEVELOP + JUDGE + JUDGE_NEW
SPLITS = {"develop": DEVELOP, "judge": JUDGE, "judge-new": JUDGE_NEW}
NAMES = {setting.name: (setting,) for setting in SETTINGS} | SPLITS


def main() -> None:
    options = _options()
    RUNS.mkdir(parents=True, exist_ok=True)
    if options.draw:
        draw(json.loads(COMMITTED.read_text(encoding="utf-8")))
        return
    folder = SweepFolder(RUNS)
    unpack(ARCHIVE, all_runs(), folder)
    if options.cost:
        write_atomically(COSTS, json.dumps(extra_costs(), indent=2) + "\n")
    else:
        wanted = list(all_runs(options.only, options.methods, options.seeds))
        if options.again:
            for run in wanted:
                (RUNS / "finished" / f"{run.name}.json").unlink(missing_ok=True)
        try:
            run_missing(wanted, folder, options.jobs, _show)
        finally:
            pack(ARCHIVE, all_runs(), folder)
    conclude(partial=options.partial)


def conclude(settings: Sequence[Setting] = SETTINGS, seeds: Sequence[int] = SEEDS, *, partial: bool = False) -> None:
    """Print what is there; write results, figures and tables if nothing is missing, or of what is complete."""
    folder = SweepFolder(RUNS)
    records = {run.name: folder.finished(run) for run in all_runs(settings, seeds=seeds)}
    done = {name: record["result"] for name, record in records.items() if record is not None}
    found = rows(done, settings, seeds)
    _print(found)
    missing = [name for name, record in records.items() if record is None]
    complete = [row for row in found if row.complete]
    if missing:
        print(f"{len(missing)} of {len(records)} runs are missing, the first is {missing[0]}.")
        if not (partial and complete):
            print("No results written; --partial writes those of the settings and seeds that are complete.")
            return
    expected = [f"{one.name} seed {seed}" for one in settings for seed in seeds_of(one) if seed in seeds]
    with_grids = [grids(row) for row in found if set(row.curves) == set(TUNED)]
    costs = _costs()
    numbers = summary(complete) | {
        "extra_cost": max(costs.values()) if costs else None,
        "missing_runs": len(missing),
    }
    numbers |= {f"extra_cost_{name.replace('-', '_')}": extra for name, extra in (costs or {}).items()}
    numbers |= {f"flat_region_{grid.replace('-', '_')}": flat(with_grids, grid) for grid in LOOKS}
    path = record(
        "regret",
        COMMAND,
        plain(numbers),
        protocol=__doc__,
        extra_costs=plain(costs),
        rows=[written(row) for row in complete],
        grids=with_grids,
        incomplete=[name for name in expected if name not in {str(row) for row in complete}],
    )
    draw(json.loads(path.read_text(encoding="utf-8")))


def draw(results: Mapping[str, Any]) -> None:
    """Figure and tables from the results."""
    write_atomically(FIGURE, rendered(regret_figure(results), "svg", {"Date": None}))
    write_atomically(WIDTH, rendered(width_figure(results), "svg", {"Date": None}))
    print(description(results), width_description(results), sep="\n")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        if write_into(page, results):
            print(f"table written into {page.relative_to(ROOT)}")


def _costs() -> dict[str, float] | None:
    """The last that were measured, here or before the results were committed; None if none were."""
    if COSTS.is_file():
        return dict(json.loads(COSTS.read_text(encoding="utf-8")))
    if not COMMITTED.is_file():
        return None
    committed: dict[str, float] | None = json.loads(COMMITTED.read_text(encoding="utf-8"))["extra_costs"]
    return committed


def _print(found: Sequence[Row]) -> None:
    for row in found:
        print(f"{row.setting.name} seed {row.seed}, start {row.start:.3f}")
        for method, loss in row.losses.items():
            rate = f"best rate {row.rates[method]:g}" if method in row.rates else ""
            edge = "at the edge of the grid" if method in row.at_edge else ""
            print(f"    {method:20s} {loss:8.4f} {row.seconds[method]:7.1f} s  {rate} {edge}".rstrip())


def _show(done: int, total: int, name: str) -> None:
    print(f"{done} of {total} runs {name}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, help="number of runs at a time (default: one per core)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, choices=SEEDS, help="default: all")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=NAMES,
        default=["develop", "judge", "judge-new"],
        metavar="SETTING",
        help=", ".join(NAMES),
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD", help=", ".join(METHODS)
    )
    parser.add_argument("--again", action="store_true", help="repeat the chosen runs, after a change of auto")
    parser.add_argument("--partial", action="store_true", help="write results though runs are missing")
    parser.add_argument("--cost", action="store_true", help="measure the extra time of auto instead")
    parser.add_argument("--draw", action="store_true", help="figure and tables from the committed results, no runs")
    options = parser.parse_args()
    options.only = [setting for name in options.only for setting in NAMES[name]]
    return options


if __name__ == "__main__":
    main()
