"""Certificates of real full-batch runs, and of runs that were tampered with."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import lorate
from lorate.cli.app import run as command
from lorate.errors import LorateError
from lorate.jsonl import read_jsonl
from lorate.monitor.certificate import Certificate, certify, certify_records
from lorate.monitor.setting import Setting
from lorate.smoothness import logistic_smoothness

X = torch.tensor(load_digits().data[:300] / 16)
Y = torch.tensor(load_digits().target[:300])
L = float(logistic_smoothness(X.numpy()))


def logistic_run(directory: Path, rule: str, steps: int = 40, full_batch: bool = True, **options: Any) -> Path:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(64, 10, bias=False)).double()
    nn.init.zeros_(base[0].weight)
    model = peft.get_peft_model(
        base, peft.LoraConfig(r=4, lora_alpha=4, target_modules=["0"], lora_dropout=options.pop("dropout", 0.0)),
        autocast_adapter_dtype=False,
    )  # fmt: skip
    optimizer = lorate.create_optimizer(model, rule, **options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    with lorate.Monitor(directory, full_batch=full_batch) as monitor:
        for _ in range(steps):
            optimizer.step(closure)
            monitor.update(optimizer)
    return directory


@pytest.mark.parametrize(
    ("rule", "options", "lines"),
    [
        ("theory", {"smoothness": L}, 6),
        ("sharp", {"smoothness": L}, 3),
        ("one-factor", {"smoothness": L}, 3),
        ("majorizer", {"smoothness": L}, 3),
        ("backtracking", {}, 3),
        ("adaptive-loss", {}, 1),
    ],
)
def test_a_run_under_a_rule_holds_what_is_proved(rule: str, options: Any, lines: int, tmp_path: Path) -> None:
    certificate = certify(logistic_run(tmp_path, rule, **options))
    assert certificate.reason is None and certificate.exit_code == 0
    assert [line.verdict for line in certificate.lines] == ["holds"] * lines
    assert "‖V‖²" in certificate.regime
    assert certificate.not_proved and certificate.assumptions and certificate.checked


def test_a_rate_that_makes_the_loss_rise_is_violated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logistic_run(tmp_path, "constant", lr=200.0)
    assert command(["certify", str(tmp_path)]) == 1
    assert "violated" in capsys.readouterr().out


def test_a_wrong_smoothness_is_found_out(tmp_path: Path) -> None:
    certificate = certify(logistic_run(tmp_path, "sharp", smoothness=L / 1000))
    assert certificate.exit_code == 1
    assert {line.claim: line.verdict for line in certificate.lines}[
        "Each step fell by at least what the rule guarantees."
    ] == "violated"


def test_tampered_records_are_found_out(tmp_path: Path) -> None:
    logistic_run(tmp_path, "theory", smoothness=L)
    file = tmp_path / "metrics.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    records[20]["loss"] *= 1.001
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert certify(tmp_path).exit_code == 1


def test_sums_of_steps_are_checked_against_the_rate_theorem(tmp_path: Path) -> None:
    logistic_run(tmp_path, "theory", smoothness=L)
    file = tmp_path / "metrics.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records:
        record["sum_eta"] /= 100
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert any("Ω(√T)" in line.claim and line.verdict == "violated" for line in certify(tmp_path).lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"full_batch": False}, "mini-batches"),
        ({"steps": 1}, "at least 2 steps"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_what_cannot_be_certified(
    options: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logistic_run(tmp_path, "normalized", **options)
    assert command(["certify", str(tmp_path)]) == 2
    assert message in capsys.readouterr().out


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(LorateError, match=r"holds no metrics.jsonl"):
        certify(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(LorateError, match=r"holds no setting.json"):
        certify(tmp_path)


def test_the_report_of_a_plain_loop_holds_the_certificate(tmp_path: Path) -> None:
    logistic_run(tmp_path / "run", "sharp", smoothness=L)
    assert command(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Each step fell by at least what the rule guarantees." in page and "Regime: adapters" in page
    logistic_run(tmp_path / "noisy", "sharp", full_batch=False, smoothness=L)
    assert command(["report", str(tmp_path / "noisy")]) == 0
    assert "Certificate" not in (tmp_path / "noisy" / "report.html").read_text()


def synthetic(guarantee: float) -> Certificate:
    """Eleven steps whose loss falls by 0.01 each, with unit gradients and the given guarantee."""
    setting = Setting(
        rule="majorizer", full_batch=True, lower_bound=0.0, smoothness=1.0, finds_smoothness=False, per_layer=True,
        noise="", gradient_norm="exact", has_rest=False, precision=1e-15,
    )  # fmt: skip
    records = [
        {
            "step": i + 1, "loss": 1 - 0.01 * i, "skipped": None, "guarantee": guarantee, "scaled_grad_norm": 1.0,
            "scaled_stacked_norm": 1.0, "eta": 0.1, "sum_eta": 0.1 * (i + 1), "lr": 1.0,
        }
        for i in range(11)
    ]  # fmt: skip
    return certify_records(setting, records)


@pytest.mark.parametrize(
    ("guarantee", "verdicts"),
    [
        (0.009, ["holds", "holds", "holds"]),
        (0.011, ["holds", "violated", "holds"]),  # the loss fell, but by less than guaranteed
        (0.2, ["holds", "violated", "violated"]),  # ten such steps would have used up twice the loss
    ],
)
def test_each_inequality_is_decided_on_its_own(guarantee: float, verdicts: list[str]) -> None:
    assert [line.verdict for line in synthetic(guarantee).lines] == verdicts


@pytest.mark.slow
@pytest.mark.parametrize("full_batch", [True, False])
def test_a_run_of_100_000_steps_is_certified_in_five_seconds(full_batch: bool, tmp_path: Path) -> None:
    logistic_run(tmp_path, "majorizer", steps=2, smoothness=L)
    setting = json.loads((tmp_path / "setting.json").read_text())
    (tmp_path / "setting.json").write_text(json.dumps(setting | {"full_batch": full_batch}))
    record = read_jsonl(tmp_path / "metrics.jsonl").records[1]
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step in range(1, 100_001):
            seen = {"slope": -1e-5 * (1 + 0.1 * (step % 7)), "moved_sq": 1e-6}
            told = {"step": step, "loss": 2 + 1 / step, "guarantee": 1e-9 / step**2, "again": 2 + 1 / (step + 1)}
            file.write(json.dumps(record | told | ({} if full_batch else seen)) + "\n")
    start = time.process_time()
    assert certify(tmp_path).exit_code == 0
    assert time.process_time() - start < 5


def test_a_loss_below_its_own_bound_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that is proved takes the bound for granted; a negative gap has no square root."""
    logistic_run(tmp_path, "theory", steps=5, smoothness=L)
    file = tmp_path / "metrics.jsonl"
    records = read_jsonl(file).records
    file.write_text("".join(json.dumps(record | {"loss": record["loss"] - 10}) + "\n" for record in records))
    assert command(["certify", str(tmp_path)]) == 2
    said = capsys.readouterr().out
    assert "below the lower_bound of 0: give Monitor(..., lower_bound=)" in said


def test_noise_that_is_found_replaces_what_was_noted_and_noise_that_was_found_once_stays(tmp_path: Path) -> None:
    setting = Setting(
        rule="auto", full_batch=False, lower_bound=0.0, smoothness=None, finds_smoothness=False, per_layer=False,
        noise="layer.0.dropout", gradient_norm=None, has_rest=False, precision=1e-7,
    )  # fmt: skip
    replace(setting, noise="lazer.0.dropout").write(tmp_path, goes_on=False)  # a damaged file that nothing contradicts
    setting.write(tmp_path, goes_on=True)
    assert Setting.read(tmp_path) == setting
    replace(setting, noise="").write(tmp_path, goes_on=True)
    assert Setting.read(tmp_path) == setting
