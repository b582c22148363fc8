import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.report.downsampling import downsample
from lorate.report.track import track

losses = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=300)


@settings(deadline=None)
@given(losses, st.integers(1, 8))
def test_ends_and_extremes_survive(values, buckets):
    records = [{"step": i, "loss": value} for i, value in enumerate(values)]
    series = downsample(iter(records), ["loss"], buckets)
    kept = [record["loss"] for record in series.records if record["loss"] is not None]
    known = [value for value in values if value is not None]
    assert series.total == len(values)
    assert len(series.records) <= 2 * buckets * 4
    assert [r["step"] for r in series.records] == sorted({r["step"] for r in series.records})
    if records:
        assert series.records[0] is records[0]
        assert series.records[-1] is records[-1]
    if known:
        assert (min(kept), max(kept)) == (min(known), max(known))


@settings(deadline=None)
@given(losses, st.integers(1, 8))
def test_means_count_every_record(values, buckets):
    series = downsample([{"step": i, "loss": value} for i, value in enumerate(values)], ["loss"], buckets)
    known = [value for value in values if value is not None]
    assert sum(records for _, _, records in series.means["loss"]) == len(known)
    total = math.fsum(mean * records for _, mean, records in series.means["loss"])
    assert total == pytest.approx(math.fsum(known), rel=1e-9, abs=1e-3)


def test_short_series_are_kept_whole():
    records = [{"step": i, "loss": 1.0} for i in range(40)]
    series = downsample(records, ["loss"], buckets=20)
    assert list(series.records) == records
    assert series.bucket == 1


@pytest.mark.parametrize("spike", [0, 1, 4999, 7777, 9999])
def test_a_single_alarm_and_a_single_skipped_step_survive(spike):
    records = [{"step": i, "loss": 1.0, "alarms": [{"kind": "diverging"}] if i == spike else []} for i in range(10_000)]
    records[spike // 2] |= {"skipped": "not finite", "loss": None}
    run = track("run", "theory", records, buckets=10)
    assert run.alarm_steps() == [spike]
    assert run.skipped_steps() == [spike // 2]
    assert len(run.series.records) < 400


def test_smoothing_is_a_mean_of_the_past_and_starts_at_the_first_value():
    run = track("run", "theory", [{"step": i, "loss": 5.0 if i < 100 else 1.0} for i in range(200)])
    steps, means, half_life = run.smoothed("loss")
    assert half_life == 10
    assert means[:100] == pytest.approx([5.0] * 100)
    assert means[109] == pytest.approx(3.0, abs=0.01)  # one half-life after the jump
    assert means[-1] == pytest.approx(1.0, abs=0.01)
    assert steps[-1] == 199


def test_smoothing_hardly_depends_on_thinning_out():
    records = [{"step": i, "loss": math.sin(i / 900)} for i in range(6000)]
    fine, coarse = (track("run", "theory", records, buckets=b).smoothed("loss") for b in (3000, 200))
    lookup = dict(zip(fine[0], fine[1], strict=True))
    assert max(abs(lookup[step] - mean) for step, mean in zip(coarse[0], coarse[1], strict=True)) < 0.02


@pytest.mark.parametrize("value", [1e308, 1e151, 10**400])
def test_what_no_figure_can_draw_counts_as_missing_and_its_mean_too(value):
    records = [{"step": i, "loss": value} for i in range(100)]
    run = track("run", "auto", records, buckets=2)
    assert all(math.isnan(loss) for loss in run.curve("loss")[1])
    assert run.smoothed("loss")[1] == []
    assert run.series.total == 100
