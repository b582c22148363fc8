import pytest

from lorate.jsonl import JsonlWriter
from lorate.report.load import load_run, load_runs
from lorate.report.verdict import comparison, judge, training_change
from report.synthetic import write_run, write_troubled_run


def result(after: float, error: float | None = 0.032):
    return {"eval_before": 2.0, "eval_after": after, "eval_change_se": error, "eval_examples": 33}


def judged(path, **info):
    return judge(load_run(write_run(path, **info).path))


def test_a_clear_fall_is_good(tmp_path):
    words = judged(tmp_path / "run", result=result(1.838))
    assert words.headline == "Held-out loss on 33 examples fell by 8.1% (2.000 to 1.838), 5.1 standard errors."
    assert words.tone == "good"
    assert words.details == ["No alarms."]


@pytest.mark.parametrize(
    ("after", "error", "tone", "words"),
    [
        (1.95, 0.03, "mixed", "no clear change"),
        (2.05, 0.03, "mixed", "no clear change"),
        (2.5, 0.03, "bad", "rose by 25.0%"),
        (1.8, None, "mixed", "standard error is not known"),
        (1.8, 0.0, "mixed", "standard error is not known"),
        (2.0, 0.0, "mixed", "did not change"),
    ],
)
def test_no_more_is_claimed_than_was_measured(tmp_path, after, error, tone, words):
    said = judged(tmp_path / "run", result=result(after, error))
    assert said.tone == tone
    assert words in said.headline


def test_alarms_and_skipped_steps_are_counted(tmp_path):
    said = judge(load_run(write_troubled_run(tmp_path / "run").path))
    assert said.tone == "bad"
    assert said.details == [
        "23 alarms: growing (5), diverging (16) and non-finite (2); the first at step 20.",
        "2 of 40 steps were skipped: the gradient is not finite (2).",
    ]


def test_alarms_spoil_a_good_result(tmp_path):
    assert judge(load_run(write_troubled_run(tmp_path / "run", result=result(1.5)).path)).tone == "mixed"


@pytest.mark.parametrize(
    ("status", "tone", "words"),
    [("running", "open", "running"), ("failed", "bad", "failed at step 40"), ("interrupted", "mixed", "--resume")],
)
def test_how_it_ended_is_said(tmp_path, status, tone, words):
    said = judged(tmp_path / "run", status=status, result=None)
    assert said.tone == tone
    assert words in said.details[0]
    assert "there is no final comparison yet" in said.headline


def test_without_held_out_data_the_training_loss_speaks(tmp_path):
    run = write_run(tmp_path / "run", result=None)
    run.evaluations.unlink()
    run.metrics.unlink()
    with JsonlWriter(run.metrics) as metrics:
        for step in range(1, 11):
            metrics.write({"step": step, "loss": 11.0 - step})
    loaded = load_run(run.path)
    assert training_change(loaded) == (9.5, 1.5)
    assert "from 9.500" in judge(loaded).headline
    assert "No held-out loss was measured" in judge(loaded).headline


def test_comparison_names_the_lowest_only_on_equal_footing(tmp_path):
    best = write_run(tmp_path / "best", result=result(1.7))
    other = write_run(tmp_path / "other", "theory", result=result(1.9))
    foreign = write_run(tmp_path / "foreign", result=result(1.1), data={"name": "something else"})
    harder = write_run(tmp_path / "harder", result={**result(1.9), "eval_before": 3.0})
    assert "best, 1.700 (next 1.900)" in comparison(load_runs([best.path, other.path]))
    assert "not comparable" in comparison(load_runs([best.path, foreign.path]))
    assert "same footing" in comparison(load_runs([best.path, harder.path]))
