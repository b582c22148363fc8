"""A day-long run: a million records are drawn with every extreme, alarm and skipped step in place."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from lorate.report import write_report
from lorate.report.load import load_run
from report.synthetic import layer_names, write_layers, write_run

MANY = 1_000_000


def lines(count: int, changed: dict[int, dict[str, object]]) -> list[bytes]:
    """Noisy records; those of some steps are changed. Written by hand: encoding a million takes too long."""
    generator, found = random.Random(0), []
    for step in range(1, count + 1):
        values = [1 + generator.random() for _ in range(3)]
        record = b'{"step": %d, "loss": %.6f, "eta": %.6f, "stacked_norm": %.6f, "skipped": null, "alarms": []}\n'
        found.append(record % (step, *values))
    for step, change in changed.items():
        found[step - 1] = json.dumps({**json.loads(found[step - 1]), **change}).encode() + b"\n"
    return found


@pytest.mark.slow
def test_a_million_records_keep_their_extremes_alarms_and_skipped_steps(tmp_path: Path) -> None:
    choose = random.Random(1)
    steps = choose.sample(range(1, MANY), 40)
    alarm = {"kind": "diverging", "message": "The loss rose.", "remedy": "Lower lr."}
    spikes, dips, alarms, skips = steps[:10], steps[10:20], steps[20:30], steps[30:]
    changed: dict[int, dict[str, object]] = {step: {"loss": 50.0 + step} for step in spikes}
    changed |= {step: {"eta": 1e-6 * step} for step in dips}
    changed |= {step: {"alarms": [alarm]} for step in alarms}
    changed |= {step: {"skipped": "the loss is nan", "loss": None} for step in skips}
    run = tmp_path / "run"
    write_run(run, steps=10)
    (run / "metrics.jsonl").write_bytes(b"".join(lines(MANY, changed)))
    data = load_run(run)
    assert data.track.series.total == MANY and data.last_step == MANY and not data.problems
    assert len(data.track.series.records) < 12_000
    drawn = dict(zip(*data.track.curve("loss"), strict=True))
    # of each bucket the highest is kept: of two spikes in one bucket the higher one
    assert max(drawn.values()) == 50.0 + max(spikes)
    assert sum(drawn.get(step) == 50.0 + step for step in spikes) >= 9
    eta = dict(zip(*data.track.curve("eta"), strict=True))
    assert min(eta.values()) == pytest.approx(1e-6 * min(dips))
    assert set(data.track.alarm_steps()) <= set(alarms) and len(data.track.alarm_steps()) >= 9
    assert set(data.track.skipped_steps()) <= set(skips) and len(data.track.skipped_steps()) >= 9
    assert data.tally.kinds == {"diverging": 10} and data.tally.skipped == {"the loss is nan": 10}
    means = data.track.series.means["loss"]
    assert sum(count for _, _, count in means) == MANY - len(skips)
    page = write_report([run], tmp_path / "page.html")
    assert page.stat().st_size < 3_000_000


@pytest.mark.slow
def test_a_report_of_twenty_thousand_layers_takes_less_than_twenty_seconds(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", layers=False)
    write_layers(run, 40, np.random.default_rng(0), layer_names(10_000))
    begun = time.process_time()
    page = write_report([run.path])
    assert time.process_time() - begun < 20
    assert page.stat().st_size < 10_000_000
    assert "20,000" in page.read_text(encoding="utf-8")
