"""The arithmetic of the regret benchmark, and what it writes for readers, from made-up losses."""

import doctest
import json
import math
from pathlib import Path

import pytest
from _regret import labels, methods, paired, table
from _regret.figure import description, regret_figure
from _regret.methods import PEERS
from _regret.runs import all_runs
from _regret.settings import DEVELOP, JUDGE, JUDGE_NEW, SEEDS, seeds_of
from _regret.summary import grids, plain, regret, rows, summary, written
from _regret.width import FACTORS, flat, medians, regret_at, width_description, width_figure

ROOT = Path(__file__).parents[2]
SETTINGS = (DEVELOP[0], JUDGE[0], JUDGE_NEW[0])
LOSSES = {
    "adamw": 2.2,
    "adamw-cosine": 2.0,
    "schedule-free": 1.9,
    "prodigy": 2.6,
    "prodigy-cosine": 2.4,
    "d-adaptation": None,
    "d-adaptation-cosine": None,
    "dog": 2.1,
    "layerwise-dog": 5.0,
    "prodigy-plus": 2.3,
    "adamw-habit": 3.0,
    "adamw-formula": 2.2,
    "auto": 2.02,
}


def results(best=2, **changed):
    """Grids with their least loss at one of the places; ``changed`` replaces losses of a method everywhere."""
    losses = LOSSES | {name.replace("_", "-"): loss for name, loss in changed.items()}
    found = {}
    for run in all_runs(SETTINGS, seeds=SEEDS):
        setting = next(one for one in SETTINGS if run.name.startswith(one.name))
        loss, lr = losses[run.arguments["method"]], run.arguments["lr"]
        if lr is not None:
            away = abs(setting.grid.index(lr) - best)
            loss = None if away > 4 else loss + 0.1 * away
        found[run.name] = {"validation": loss, "start": 10.0, "seconds": 3.0, "cpu_seconds": 2.0}
    return found


def summarised(**changed):
    return summary(rows(results(**changed), SETTINGS, SEEDS))


def test_regret_is_relative_to_the_best():
    assert regret(2.02, 2.0) == pytest.approx(0.01)
    assert regret(1.9, 2.0) == pytest.approx(-0.05)
    assert regret(math.inf, 2.0) == math.inf
    with pytest.raises(ValueError, match="diverged"):
        regret(2.0, math.inf)


def test_a_row_keeps_the_best_of_each_grid_and_every_other_loss():
    first = rows(results(), SETTINGS, SEEDS)[0]
    assert (first.setting, first.seed, first.start) == (SETTINGS[0], 0, 10.0)
    assert first.losses == {
        name: math.inf if loss is None else loss for name, loss in LOSSES.items() if name != "adamw-formula"
    }
    assert first.complete and first.peers == [name for name in PEERS if name != "adamw-formula"]
    assert first.rates == dict.fromkeys(("adamw", "adamw-cosine", "schedule-free"), SETTINGS[0].grid[2])
    assert first.at_edge == []
    assert first.seconds["adamw-cosine"] == 16.0 and first.seconds["auto"] == 2.0
    assert first.wall_seconds["adamw"] == 24.0


@pytest.mark.parametrize("edge", [0, 7])
def test_a_best_rate_at_the_edge_of_the_grid_is_said(edge):
    found = rows(results(best=edge), SETTINGS, SEEDS)
    assert all(row.at_edge == ["adamw", "adamw-cosine", "schedule-free"] for row in found)
    assert summary(found)["best_at_edge_of_grid_adamw_cosine"] == 9


def test_the_better_form_of_a_package_counts():
    row = rows(results(), SETTINGS, SEEDS)[0]
    assert [row.loss(name) for name in row.peers] == [2.4, math.inf, 2.1, 2.3, 3.0]
    assert row.regret("prodigy") == pytest.approx(0.2)
    assert row.regret("auto", ("adamw",)) == pytest.approx(2.02 / 2.2 - 1)


def test_a_method_with_missing_runs_is_left_out_of_a_row():
    some = results()
    del some[next(name for name in some if ".schedule-free." in name and name.endswith("seed=0"))]
    first, second, _ = rows(some, SETTINGS[:1], SEEDS)
    assert not first.complete and second.complete
    assert "schedule-free" not in first.losses and "adamw" in first.losses
    assert "schedule-free" in second.losses
    assert rows({}, SETTINGS, SEEDS) == []


def test_summary():
    found = summarised()
    assert found["settings"] == found["seeds"] == 3
    assert found["judged_worst_regret"] == found["language_median_regret"] == pytest.approx(0.01)
    assert found["difference_adamw_cosine"] == pytest.approx(0.01) and found["difference_adamw_cosine_error"] == 0
    assert found["difference_schedule_free"] == pytest.approx(0.06)
    assert found["difference_d_adaptation"] is None
    assert found["median_regret_adamw_habit"] == pytest.approx(0.5)
    assert found["ahead_of_adamw_formula"] == 1 and found["median_regret_adamw_formula"] == pytest.approx(0.1)
    assert found["median_regret"] == found["worst_regret"] == found["worst_regret_judge"] == pytest.approx(0.01)
    assert found["worst_regret_against_constant"] == pytest.approx(2.02 / 2.2 - 1)
    assert found["worst_regret_against_both_grids"] == pytest.approx(0.01)
    assert found["ahead_of_peers"] == found["ahead_of_prodigy"] == found["ahead_of_d_adaptation"] == 1
    assert found["ahead_of_schedule_free"] == 0
    assert found["worst_regret_d_adaptation"] == math.inf
    assert found["median_regret_schedule_free"] == pytest.approx(-0.05)
    assert found["tuning_cost"] == 8
    # of 2.0, 2.1, 2.1, 2.2, 2.2, 2.3, 2.4 and a run that diverged the median is 2.2
    assert found["median_regret_of_typical_rate_adamw_cosine"] == pytest.approx(0.1)
    assert found["median_regret_of_typical_rate_schedule_free"] == pytest.approx(0.05)
    assert found["least_best_over_start"] == pytest.approx(0.2)


def test_both_grids_count_the_better_one():
    assert summarised(adamw=1.8)["worst_regret_against_both_grids"] == pytest.approx(2.02 / 1.8 - 1)


def test_median_and_worst_are_over_all_settings_and_seeds():
    some = results()
    for name, loss in (("seed=0", 2.2), ("seed=1", 1.8), ("seed=2", 2.0)):
        some[f"{SETTINGS[1].name}.auto.{name}"]["validation"] = loss
    found = summary(rows(some, SETTINGS, SEEDS))
    assert found["worst_regret"] == found["worst_regret_judge"] == pytest.approx(0.1)
    assert found["median_regret"] == pytest.approx(0.01)
    assert found["median_regret_judge"] == pytest.approx(0.0)
    assert found["ahead_of_peers"] == pytest.approx(8 / 9) and found["ahead_of_peers_judge"] == pytest.approx(2 / 3)
    assert found["ahead_of_peers_develop"] == found["judged_ahead_of_peers"] == 1
    # of the three settings one has differences of 0.1, -0.1 and 0.0, the others of 0.01 without any chance
    assert found["difference_adamw_cosine"] == pytest.approx(0.02 / 3)
    assert found["difference_adamw_cosine_error"] == pytest.approx(0.1 / 3**1.5)


def test_a_diverged_auto_is_infinitely_bad_and_ahead_of_nobody():
    names = {form: None for forms in PEERS.values() for form in forms}
    found = summarised(auto=None, **names)
    assert found["worst_regret"] == found["median_regret"] == math.inf
    assert found["ahead_of_peers"] == 0
    assert plain(found)["worst_regret"] == "infinite"


@pytest.fixture
def content():
    found = rows(results(), SETTINGS, SEEDS)
    whole = {
        "summary": plain(summary(found)),
        "rows": [written(row) for row in found],
        "grids": [grids(row) for row in found],
    }
    return json.loads(json.dumps(whole))


def test_table(content):
    lines = table.table(content).splitlines()
    assert len(lines) == 2 + 3 * (1 + 1) + 2
    assert lines[3] == (
        "| matrix, r 4, α 8, batch 16, 300 steps | 0.00373 | +1.0% | −5.0% | +20% | diverged | +5.0% | +15% | – | +50% "
        "| 8× |"
    )
    assert lines[7].endswith("| +10% | +50% |  |")  # a language model; its grids were run on another machine
    assert lines[-2].startswith("| **median** |  | +1.0% | −5.0% |")
    assert lines[-1].startswith("| **worst** |  | +1.0% |") and "diverged" in lines[-1]
    content["rows"][0]["best_at_edge"] = ["adamw-cosine"]
    assert "0.00373\\* / 0.00373 |" in table.table(content)


def test_table_replaces_that_of_a_page_and_nothing_else(content, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- regret -->\nold\n<!-- /regret -->\nafter\n")
    assert table.write_into(page, content)
    text = page.read_text()
    assert text == f"before\n<!-- regret -->\n{table.table(content)}<!-- /regret -->\nafter\n"
    page.write_text("no table here")
    assert not table.write_into(page, content)
    assert page.read_text() == "no table here"


def test_figure_shows_every_method_on_every_setting_and_those_that_diverged_at_the_end(content):
    axes = regret_figure(content).axes[0]
    shown = [group.get_offsets() for group in axes.collections if len(group.get_offsets()) == len(SEEDS)]
    assert len(shown) == len(SETTINGS) * len(labels.LABELS) - 2  # the formula is for language models
    assert sum(float(points[0][0]) == 100 for points in shown) == len(SETTINGS)
    titles = [text.get_text() for text in axes.texts][::2]
    assert titles == ["auto was made on", "auto was judged on first, then made on", "auto was judged on"]
    assert "auto: median +1.0%, worst +1.0%; Schedule-Free, best of 8: median −5.0%" in description(content)
    assert "D-Adaptation: median diverged, worst diverged" in description(content)


def test_the_line_of_a_grid_is_relative_to_its_own_best_rate(content):
    """Regret at the best rate is that of the summary, at the next ones a twentieth of 2.0 more each."""
    row, step = content["grids"][0], SETTINGS[0].grid[3] / SETTINGS[0].grid[2]
    values, middle = regret_at(row, "adamw"), len(FACTORS) // 2
    assert values[middle] == values.min() == pytest.approx(0.1)
    next_rate = abs(FACTORS - step).argmin()
    assert values[next_rate] == pytest.approx(0.15, abs=0.01)
    assert medians(content["grids"], "adamw-cosine")[middle] == 0
    # 2% above the best is four tenths of the way to the neighbours, which lie 5% above it
    assert 1.5 < flat(content["grids"][:1], "adamw-cosine") < step**0.8 * 1.08


def test_a_run_that_diverged_is_drawn_high_and_a_grid_ends_where_it_ends(content):
    values = regret_at(content["grids"][0], "adamw")
    assert values[FACTORS < 0.25] == pytest.approx(0.2)  # the best is the third rate, the first 1/3.7 of it
    assert regret_at(results_with_edge(), "adamw")[-1] == pytest.approx(20 / 3)  # two thirds of the way to 10


def results_with_edge():
    """A grid of which the largest rate diverged."""
    return {"curves": {name: [[0.1, 2.0], [0.2, 2.0], [1.6, "infinite"]] for name in ("adamw", "adamw-cosine")}}


def test_width_figure_has_a_line_a_method_and_a_level_for_auto(content):
    axes = width_figure(content).axes[0]
    named = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(named)[-1] == "auto: no rate" and len(named) == 4
    assert named["auto: no rate"].get_ydata() == pytest.approx([1.0, 1.0])
    assert "AdamW, warm-up and cosine: " in width_description(content) and "on 9 runs" in width_description(content)


@pytest.mark.parametrize("module", [labels, table, paired, methods], ids=["labels", "table", "paired", "methods"])
def test_examples_in_the_docstrings(module):
    assert doctest.testmod(module).failed == 0


COMMITTED = ROOT / "benchmarks" / "results" / "regret.json"


@pytest.mark.skipif(not COMMITTED.exists(), reason="not measured yet")
def test_committed_results():
    """No row is left out unsaid, the tables in the documentation show these numbers, and the best is not near 0."""
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    every = [(one.name, seed) for one in DEVELOP + JUDGE + JUDGE_NEW for seed in seeds_of(one)]
    shown = [(row["setting"], row["seed"]) for row in committed["rows"]]
    incomplete = committed.get("incomplete", [])
    assert [row for row in every if row in shown] == shown
    assert {f"{name} seed {seed}" for name, seed in every} - set(incomplete) == {
        f"{name} seed {seed}" for name, seed in shown
    }
    assert committed["summary"]["least_best_over_start"] > 0.05
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        if found := table.BLOCK.search(page.read_text(encoding="utf-8")):
            assert found[0] == f"<!-- regret -->\n{table.table(committed)}<!-- /regret -->"
