"""The regret benchmark from end to end on tiny settings, and how its methods are set up."""

import json
import math
import time
from dataclasses import asdict, replace

import _record
import pytest
import regret
import torch
from _regret import cost, settings
from _regret.archive import pack, unpack
from _regret.methods import METHODS, PEERS, TUNED, first_distance
from _regret.runs import all_runs, methods_of
from _regret.settings import Setting, in_pieces, noisy, task_of
from _regret.training import Stepper, train
from torch import nn

from lorate.sweep import run_missing
from lorate.sweep.folder import SweepFolder

TINY = Setting("matrix", 2, 4, batch=8, steps=6, quick=True)
OTHER = Setting("logistic", 2, 4, batch=8, steps=6, noise=0.2, quick=True)


def test_from_runs_to_results_figure_and_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(settings, "GRID_SIZE", 2)
    monkeypatch.setattr("_regret.summary.DEVELOP", (TINY,))
    monkeypatch.setattr(_record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(regret, "RUNS", tmp_path)
    monkeypatch.setattr(regret, "COSTS", tmp_path / "cost.json")
    monkeypatch.setattr(regret, "COMMITTED", tmp_path / "results" / "regret.json")
    monkeypatch.setattr(regret, "FIGURE", tmp_path / "regret.svg")
    monkeypatch.setattr(regret, "WIDTH", tmp_path / "width.svg")
    monkeypatch.setattr(regret, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("<!-- regret -->\n<!-- /regret -->\n")
    runs = list(all_runs((TINY, OTHER), seeds=(0,)))
    folder = SweepFolder(tmp_path)
    run_missing(runs[:-1], folder, 1, None)
    regret.conclude((TINY, OTHER), (0,))
    assert f"1 of {len(runs)} runs are missing" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    regret.conclude((TINY, OTHER), (0,), partial=True)
    part = json.loads((tmp_path / "results" / "regret.json").read_text())
    assert [row["setting"] for row in part["rows"]] == [TINY.name]
    assert part["incomplete"] == [f"{OTHER.name} seed 0"] and part["summary"]["missing_runs"] == 1

    _, done = run_missing(runs, folder, 1, None)
    assert done == 1  # the others were finished already
    (tmp_path / "cost.json").write_text('{"small-lm": 0.06, "resnet": 0.1}')
    regret.conclude((TINY, OTHER), (0,))
    written = json.loads((tmp_path / "results" / "regret.json").read_text())
    assert written["summary"]["settings"] == 2 and written["summary"]["seeds"] == 1
    assert (written["summary"]["extra_cost"], written["summary"]["extra_cost_small_lm"]) == (0.1, 0.06)
    (tmp_path / "cost.json").unlink()
    regret.conclude((TINY, OTHER), (0,))
    again = json.loads((tmp_path / "results" / "regret.json").read_text())
    assert again["summary"] == written["summary"]  # what was measured elsewhere is not lost
    assert [row["split"] for row in written["rows"]] == ["develop", "judge"]
    assert set(written["rows"][0]["losses"]) == set(methods_of(TINY))
    assert (tmp_path / "regret.svg").is_file() and (tmp_path / "width.svg").is_file()
    assert "matrix, r 2, α 4, batch 8" in (tmp_path / "README.md").read_text()


def test_finished_runs_travel_in_the_archive(tmp_path):
    runs = list(all_runs((TINY,), methods=("adamw", "auto"), seeds=(0,)))
    here, there, archive = SweepFolder(tmp_path / "a"), SweepFolder(tmp_path / "b"), tmp_path / "runs.jsonl"
    here.path.mkdir(), there.path.mkdir()
    assert unpack(archive, runs, there) == 0  # nobody has run anything yet
    for place, run in enumerate(runs[:3]):
        here.save(run, {"validation": place}, 1.0)
    assert pack(archive, runs, here) == 3
    assert unpack(archive, runs, there) == 3 and unpack(archive, runs, there) == 0
    assert [there.finished(run) for run in runs] == [here.finished(run) for run in runs]
    changed = [replace(run, arguments={**run.arguments, "seed": 5}) for run in runs]
    assert unpack(archive, changed, SweepFolder(tmp_path / "c")) == 0


def test_every_setting_is_on_one_side_and_named_once():
    every = settings.DEVELOP + settings.JUDGE + settings.JUDGE_NEW
    assert len({setting.name for setting in every}) == len(every) == 18
    assert {setting.workload for setting in every} == set(settings.GRIDS)
    assert all(len(setting.grid) == 8 for setting in every)
    assert [len(settings.seeds_of(setting)) for setting in every if setting.workload == "smollm2"] == [2, 2, 1]
    names = [run.name for run in all_runs()]
    rows = sum(len(settings.seeds_of(setting)) for setting in every)
    formula = sum(len(settings.seeds_of(setting)) for setting in every if setting.workload in settings.LANGUAGE)
    assert len(set(names)) == len(names) == rows * (8 * len(TUNED) + len(METHODS) - 1 - len(TUNED)) + formula


def test_recorded_arguments_of_earlier_settings_have_not_changed():
    """Their runs are in the archive with the arguments that they were run with."""
    assert "examples" not in settings.JUDGE[0].arguments
    assert settings.JUDGE_NEW[1].arguments["examples"] == 96
    assert Setting(**settings.JUDGE_NEW[1].arguments) == settings.JUDGE_NEW[1]
    names = {json.loads(line)["run"] for line in regret.ARCHIVE.read_text(encoding="utf-8").splitlines()}
    assert {run.name for run in all_runs(settings.DEVELOP, seeds=(0, 1), methods=("adamw", "prodigy"))} <= names


def test_few_examples_are_seen_often():
    task = task_of(Setting("small-lm", 2, 4, batch=4, steps=1, examples=12, quick=True))
    batches = task.batches(4, 0)
    seen = {tuple(row) for _ in range(30) for row in next(batches)["input_ids"].tolist()}
    assert len(seen) == 12
    assert len(task.held_out["input_ids"]) == len(
        task_of(Setting("small-lm", 2, 4, batch=4, steps=1, quick=True)).held_out["input_ids"]
    )


def test_adamw_takes_the_steps_of_torch():
    task = task_of(TINY)
    model = task.model(TINY.adapter, 3)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.0)
    for _, batch in zip(range(TINY.steps), task.batches(TINY.batch, 3), strict=False):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    found = train(asdict(TINY), "adamw", 0.01, 3)
    assert found["validation"] == pytest.approx(task.validation_loss(model), rel=1e-6)
    assert found["start"] == pytest.approx(task.validation_loss(task.model(None, 0)), rel=1e-6)
    assert found["steps"] == TINY.steps


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_is_repeated_exactly(method):
    tiny = Setting("small-lm", 2, 4, batch=2, steps=4, quick=True) if method == "adamw-formula" else TINY
    setting = asdict(replace(tiny, steps=40) if tiny is TINY else tiny)
    lr = 0.01 if method in TUNED else None
    found = train(setting, method, lr, 0)
    again = train(setting, method, lr, 0)
    assert found["validation"] == again["validation"]
    assert found["validation"] != found["start"]
    assert found["cpu_seconds"] > 0


def test_a_run_whose_loss_is_not_finite_has_diverged():
    found = train(asdict(TINY), "adamw", 1e30, 0)
    assert found["validation"] is None
    assert found["steps"] < TINY.steps


def multipliers(method, steps):
    tiny = replace(TINY, workload="small-lm") if method == "adamw-formula" else TINY
    prepared = METHODS[method](task_of(tiny).model(tiny.adapter, 0), 0.1 if method in TUNED else None, steps)
    rule = prepared.optimizer.param_groups[0]["lr"]
    return rule, prepared.multiplier and [prepared.multiplier(step) for step in range(steps)]


@pytest.mark.parametrize(
    ("method", "lr", "warmup"),
    [
        ("adamw-cosine", 0.1, 5),
        ("prodigy-cosine", 1.0, 0),
        ("adamw-habit", 2e-4, 5),
        ("adamw-formula", 5e-4 * (2000 / 64) ** 0.781, 5),  # a Llama 64 wide
    ],
)
def test_cosine_schedules(method, lr, warmup):
    rule, found = multipliers(method, 100)
    assert rule == pytest.approx(lr)
    assert found[:warmup] == pytest.approx([(step + 1) / (warmup + 1) for step in range(warmup)])
    rest = [0.5 * (1 + math.cos(math.pi * step / (100 - warmup))) for step in range(100 - warmup)]
    assert found[warmup:] == pytest.approx(rest)


@pytest.mark.parametrize("method", ["adamw", "schedule-free", "prodigy", "prodigy-plus", "d-adaptation", "dog", "auto"])
def test_others_have_no_schedule(method):
    assert multipliers(method, 100)[1] is None


def test_a_schedule_reaches_the_optimizer():
    task = task_of(TINY)
    model = task.model(TINY.adapter, 0)
    prepared = METHODS["adamw-cosine"](model, 0.1, 40)
    stepper = Stepper(task, model, prepared)
    seen = []
    for _, batch in zip(range(4), task.batches(8, 0), strict=False):
        stepper.step(batch)
        seen.append(prepared.optimizer.param_groups[0]["lr"])
    expected = [0.1 * prepared.multiplier(step) for step in range(4)]
    assert seen == pytest.approx(expected) and seen[0] < seen[1]


def factors(model):
    return [p.detach().clone() for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("method", ["dog", "layerwise-dog", "schedule-free", "prodigy-plus"])
def test_an_average_is_handed_over_and_the_last_weights_come_back(method):
    task = task_of(TINY)
    model = task.model(TINY.adapter, 0)
    prepared = METHODS[method](model, 0.01, 6)
    stepper, visited = Stepper(task, model, prepared), []
    for _, batch in zip(range(6), task.batches(8, 0), strict=False):
        stepper.step(batch)
        visited.append(factors(model))
    with prepared.result():
        inside = factors(model)
    for now, last in zip(factors(model), visited[-1], strict=True):
        torch.testing.assert_close(now, last)
    if method in ("schedule-free", "prodigy-plus"):
        assert not torch.allclose(inside[1], visited[-1][1])
        return
    average = visited[0]
    for step, values in enumerate(visited[1:], 2):
        weight = 9 / (8 + step)
        average = [(1 - weight) * old + weight * new for old, new in zip(average, values, strict=True)]
    for found, expected in zip(inside, average, strict=True):
        torch.testing.assert_close(found, expected)


def test_dog_begins_farther_away_with_batch_normalisation():
    assert first_distance(nn.Linear(2, 2)) == 1e-6
    assert first_distance(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))) == 1e-4


def test_peers_are_methods_without_a_rate():
    assert {form for forms in PEERS.values() for form in forms} == set(METHODS) - set(TUNED) - {"auto"}


def test_noise_on_labels():
    clean = task_of(replace(OTHER, noise=0.0))
    disturbed = noisy(clean, 0.4)
    for before, after in ((clean.train, disturbed.train), (clean.held_out, disturbed.held_out)):
        assert torch.equal(before["inputs"], after["inputs"])
        share = (before["labels"] != after["labels"]).float().mean()
        assert abs(float(share) - 0.4 * 0.9) < 0.15
    assert torch.equal(disturbed.train["labels"], noisy(clean, 0.4).train["labels"])


def test_noise_on_outputs():
    clean = task_of(TINY)
    difference = noisy(clean, 0.5).train["outputs"] - clean.train["outputs"]
    assert float(difference.std()) == pytest.approx(0.5, rel=0.05)
    assert float(difference.mean()) == pytest.approx(0.0, abs=0.05)


def test_sequences_are_cut_into_pieces():
    task = task_of(Setting("small-lm", 2, 4, batch=2, steps=1, quick=True))
    pieces = in_pieces(task, 32)
    assert pieces.train["input_ids"].shape == (2 * len(task.train["input_ids"]), 32)
    assert torch.equal(pieces.held_out["labels"].flatten(), task.held_out["labels"].flatten())
    assert torch.equal(
        task_of(Setting("small-lm", 2, 4, batch=2, steps=1, tokens=32, quick=True)).train["input_ids"],
        pieces.train["input_ids"],
    )


def test_extra_cost_is_that_of_a_usual_step(monkeypatch):
    def slow_auto(model, lr, steps):
        return replace(METHODS["adamw"](model, 0.01, steps), after_step=lambda: time.sleep(0.02))

    monkeypatch.setattr(cost, "METHODS", {"auto": slow_auto, "adamw": METHODS["adamw"]})
    monkeypatch.setattr(cost, "REPEATS", 1)
    found = cost.extra_costs((TINY,))
    assert list(found) == ["matrix"] and found["matrix"] > 0.2
