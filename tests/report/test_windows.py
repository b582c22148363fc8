"""Signal and drift in the report."""

import math
from pathlib import Path
from typing import Any

import pytest

from lorate.report.windows import reading, window_track
from report.synthetic import write_run

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from lorate.jsonl import JsonlWriter
from lorate.report import write_report
from lorate.report.figures import drift_figure


def record(step: int, start: int | None, signal: Any = (3.0, 4.0), drift: Any = (0.3, 0.4)) -> dict[str, Any]:
    values = {"step": step, "a_norm": [1.0, 1.0], "b_norm": [1.0, 1.0], "grad_norm": [1.0, 1.0]}
    if start is not None:
        values |= {"window_start": start, "signal": list(signal), "drift": list(drift)}
    return values


def test_norms_over_all_layers() -> None:
    windows = window_track("run", "constant", [{"names": ["a", "b"]}, record(1, None), record(10, 1)])
    assert windows.curve("signal") == ([10], [5.0])
    assert windows.curve("drift") == ([10], [pytest.approx(0.5)])
    assert windows.curve("drift_ratio") == ([10], [pytest.approx(0.1)])


@pytest.mark.parametrize(
    "damaged",
    [
        record(30, 26),  # a resume cut it short
        record(30, 20, signal=[3.0, None]),
        record(30, 20, signal=[]),
        record(30, 20, drift="much"),
        {"step": 30},
        {"window_start": 20, "signal": [1.0], "drift": [1.0]},
    ],
)
def test_what_is_no_whole_window_is_passed_over(damaged: Any) -> None:
    windows = window_track("run", "constant", [record(10, 1), damaged, record(40, 30)])
    assert windows.curve("signal")[0] == [10, 40]


def test_the_sentence_tells_mean_and_largest_also_of_a_thinned_series() -> None:
    records = [record(10 * k, 10 * k - 10, drift=(0.3 * (k % 2), 0.4 * (k % 2))) for k in range(1, 4001)]
    records[2000] = record(20010, 20000, drift=(30.0, 40.0))
    windows = window_track("run", "constant", records, buckets=20)
    assert len(windows.series.records) < 500
    assert reading(windows).startswith("The drift was 5.2% of the signal on average and 1,000% at most")
    still = window_track("run", "constant", [record(10, 1, signal=(0.0, 0.0), drift=(0.0, 0.0))])
    assert reading(still) == "" and math.isnan(still.curve("drift_ratio")[1][0])


def test_small_and_large_drift_are_read_differently() -> None:
    small, large = (window_track("r", "constant", [record(10, 1, drift=(d, d))]) for d in (0.01, 3.0))
    assert "almost linearly" in reading(small) and "smaller lr" in reading(large)


def write_windows(path: Path, **options: Any) -> Path:
    run = write_run(path, layers=False, **options)
    with JsonlWriter(run.layers) as file:
        file.write({"names": ["x.layers.0.q_proj", "x.layers.1.q_proj"], "scaling": [2.0, 2.0]})
        for step in (1, 10, 20, 30, 40):
            file.write(record(step, None if step == 1 else max(step - 10, 1)))
    return run.path


def test_the_page_shows_the_figure_and_reads_it(tmp_path: Path) -> None:
    page = write_report([write_windows(tmp_path / "one")]).read_text()
    assert "Signal and drift." in page and "The drift was 10% of the signal on average and 10% at most" in page
    assert "Signal of one (adaptive-loss): 5.000 at step 10" in page
    both = write_report([tmp_path / "one", write_windows(tmp_path / "two")], tmp_path / "both.html").read_text()
    assert "Drift over signal of two (adaptive-loss)" in both and "on average" not in both


def test_a_run_without_windows_has_no_figure(tmp_path: Path) -> None:
    assert "Signal and drift." not in write_report([write_run(tmp_path / "one").path]).read_text()


def test_curves_of_the_figure() -> None:
    windows = window_track("run", "constant", [record(10, 1), record(20, 10)])
    (axes,) = drift_figure([windows]).axes
    assert [line.get_label() for line in axes.get_lines()[:2]] == ["signal", "drift"]
    assert axes.get_yscale() == "log"
    (axes,) = drift_figure([windows, windows]).axes
    assert axes.get_title(loc="left") == "drift / signal"
