"""The tables of the parts and constants of auto."""

import json
from pathlib import Path

import auto_constants
import pytest
from _regret.settings import Setting
from auto_constants import CONSTANTS, PAGE, PARTS, Form, constants_table, loss, parts_table, with_tables

from lorate.rules.auto import control

RESULTS = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "results" / "auto_constants.json").read_text(encoding="utf-8")
)


def test_the_page_shows_the_committed_results():
    page = PAGE.read_text(encoding="utf-8")
    assert parts_table(RESULTS["parts"]) in page and constants_table(RESULTS) in page
    assert with_tables(page, RESULTS) == page


def test_what_is_measured_are_the_parts_and_constants_as_they_are():
    assert [row["name"] for row in RESULTS["parts"]] == [form.name for form in PARTS]
    usual = {row["name"]: row["usual"] for row in RESULTS["constants"]}
    for name, (owner, attribute, _) in CONSTANTS.items():
        assert usual[name] == getattr(owner, attribute)


TINY = Setting("matrix", 2, 4, batch=8, steps=12, quick=True)


@pytest.mark.parametrize("form", PARTS, ids=lambda form: form.name)
def test_every_part_makes_a_difference(form):
    assert (loss(form, TINY, 0) == loss(PARTS[-1], TINY, 0)) == (form is PARTS[-1])


def test_a_constant_is_changed_for_the_run_alone():
    usual = loss(PARTS[-1], TINY, 0)
    assert loss(Form("first", ((control, "FIRST_LENGTH", 1e-2),)), TINY, 0) != usual
    assert control.FIRST_LENGTH == 1e-4 and loss(PARTS[-1], TINY, 0) == usual


def test_losses_come_by_form_setting_and_seed(monkeypatch):
    monkeypatch.setattr(auto_constants, "SEEDS", range(2))
    found = auto_constants._losses(PARTS[-2:], [TINY])
    assert found.shape == (2, 1, 2)
    assert found[1, 0, 1] == loss(PARTS[-1], TINY, 1)
