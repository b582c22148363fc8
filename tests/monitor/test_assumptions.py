"""Every way we know to get a certificate that is not deserved."""

import json
from collections.abc import Callable
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
from lorate.monitor.certificate import certify
from lorate.monitor.noise import noise_sources
from lorate.monitor.unchanged import data_digest
from lorate.smoothness import logistic_smoothness

X = torch.tensor(load_digits().data[:200] / 16)
Y = torch.tensor(load_digits().target[:200])
L = float(logistic_smoothness(X.numpy()))
Between = Callable[[int, nn.Module], None]


def model_with(*extra: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(64, 10, bias=False), *extra).double()
    nn.init.zeros_(base[0].weight)
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["0"])
    return peft.get_peft_model(base, config, autocast_adapter_dtype=False)


def train(
    directory: Path,
    model: nn.Module,
    *,
    steps: int = 12,
    between: Between = lambda step, model: None,
    data: Callable[[int], tuple[torch.Tensor, torch.Tensor]] = lambda step: (X, Y),
    hashed: bool = False,
    again: bool = False,
    unseen: tuple[int, ...] = (),
    rule: str = "sharp",
    **options: Any,
) -> Path:
    optimizer = lorate.create_optimizer(model, rule, **({"smoothness": L} if rule != "backtracking" else {}))
    now = [0]

    def loss_of() -> torch.Tensor:
        x, y = data(now[0])
        return nn.functional.cross_entropy(model(x), y)

    def closure() -> torch.Tensor:
        loss = loss_of()
        if loss.requires_grad:
            optimizer.zero_grad()
            loss.backward()
        return loss

    with lorate.Monitor(directory, full_batch=True, again=loss_of if again else None, **options) as monitor:
        for step in range(1, steps + 1):
            now[0] = step
            between(step, model)
            optimizer.step(closure)
            if step not in unseen:
                monitor.update(optimizer, data=data(step) if hashed else None)
    return directory


def reason(directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says, and that it is not a success."""
    assert command(["certify", str(directory)]) == 2
    said = capsys.readouterr().out
    assert said.startswith("Not certifiable: ")
    return said


def test_an_honest_run_lists_what_was_checked(tmp_path: Path) -> None:
    found = certify(train(tmp_path, model_with(), hashed=True, again=True))
    assert found.exit_code == 0 and found.reason is None
    said = "; ".join(found.checked)
    for part in ("steps 1 to 12", "did not change", "no module", "same data", "evaluated again"):
        assert part in said
    assert not any("same function" in part for part in found.assumptions)  # it was checked
    assert any("for all weights" in part for part in found.assumptions)
    assert any("not edited" in part for part in found.assumptions)


def scale_a_factor(step: int, model: nn.Module) -> None:
    if step == 7:
        next(p for name, p in model.named_parameters() if "lora_B" in name).data.mul_(1.001)


def flip_both_factors(step: int, model: nn.Module) -> None:
    """All norms and the weights themselves stay as they are."""
    if step == 7:
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.neg_()


@pytest.mark.parametrize("between", [scale_a_factor, flip_both_factors])
def test_adapters_changed_between_steps(between: Between, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "between step 6 and step 7" in reason(train(tmp_path, model_with(), between=between), capsys)


def test_weights_put_away_and_back_are_no_change(tmp_path: Path) -> None:
    def look(step: int, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                kept = parameter.data.clone()
                parameter.data.zero_()
                parameter.data.copy_(kept)

    assert certify(train(tmp_path, model_with(), between=look)).exit_code == 0


def other_data(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (X, Y) if step < 5 else (X.roll(1, dims=1), Y)


def test_other_data_by_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = reason(train(tmp_path, model_with(), data=other_data, hashed=True), capsys)
    assert "step 5 saw other data than step 4" in said


def test_other_data_by_evaluating_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = reason(train(tmp_path, model_with(), data=other_data, again=True), capsys)
    assert "evaluated again after step 4" in said and "not the same function" in said


def test_other_data_unchecked_is_an_assumption_that_is_named(tmp_path: Path) -> None:
    found = certify(train(tmp_path, model_with(), data=lambda step: (X + 1e-9 * step, Y)))
    assert found.exit_code == 0
    assert "the loss was the same function at every step, as full_batch=True says" in found.assumptions


@pytest.mark.parametrize("extra", [nn.Dropout(0.002), nn.AlphaDropout(0.1), nn.RReLU(0.1, 0.3)])
def test_dropout_of_any_kind(extra: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "draws random numbers in training (" in reason(train(tmp_path, model_with(extra)), capsys)


def test_dropout_that_is_switched_on_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_with(nn.Dropout(0.5).eval())

    def switch(step: int, model: nn.Module) -> None:
        next(m for m in model.modules() if isinstance(m, nn.Dropout)).train(step == 10)

    assert "draws random numbers" in reason(train(tmp_path, model, between=switch), capsys)


def test_dropout_that_is_off_is_no_noise(tmp_path: Path) -> None:
    assert certify(train(tmp_path, model_with(nn.Dropout(0.0), nn.Dropout(0.5).eval()))).exit_code == 0


class Thinned(nn.Module):
    """Nothing in it says that it drops anything."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.001)


def test_dropout_as_a_function_is_named_or_found_by_evaluating_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = certify(train(tmp_path / "one", model_with(Thinned()), rule="backtracking"))
    assert any("random numbers were drawn while it ran" in part for part in found.assumptions)
    # ten values of 200 × 10 are dropped in a thousand: seldom the same twice
    said = reason(train(tmp_path / "two", model_with(Thinned()), rule="backtracking", again=True), capsys)
    assert "not the same function" in said
    quiet = certify(train(tmp_path / "three", model_with()))
    assert not any("random numbers were drawn" in part for part in quiet.assumptions)


def test_steps_that_nobody_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "jump from step 4 to step 7" in reason(train(tmp_path, model_with(), unseen=(5, 6)), capsys)


def test_steps_before_the_monitor_are_not_counted(tmp_path: Path) -> None:
    """Σ η once held 200 steps that nobody had seen, and so did the bounds made of it."""
    torch.manual_seed(0)
    model = model_with()
    optimizer = lorate.create_optimizer(model, lorate.rules.Sharp(L, per_layer=False))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    for _ in range(50):
        optimizer.step(closure)
    with lorate.Monitor(tmp_path, full_batch=True) as monitor:
        for _ in range(6):
            optimizer.step(closure)
            monitor.update(optimizer)
    found = certify(tmp_path)
    assert found.exit_code == 0 and "steps 51 to 56" in found.checked[0]
    records = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seen = sum(record["eta"] for record in records[:-1])
    line = next(line for line in found.lines if line.claim.startswith("Σ η"))
    assert line.figures.startswith(f"{seen:.4g}, ")


def test_an_L_that_was_found_is_not_called_given(tmp_path: Path) -> None:
    found = certify(train(tmp_path, model_with(), rule="backtracking"))
    assert not any("as given" in part for part in found.assumptions)
    assert any("L was found by trial" in part for part in found.not_proved)
    assert {line.standing for line in found.lines} == {"observed"}
    given = certify(train(tmp_path / "given", model_with()))
    assert any(f"L = {L:.6g}, as given" in part for part in given.assumptions)


def test_a_bound_that_only_the_adapters_keep_is_named(tmp_path: Path) -> None:
    """The rate theorem needs a bound for all weights; nothing in the records shows that one is not."""
    found = certify(train(tmp_path, model_with(), lower_bound=0.5))
    expected = "the loss is at least 0.5 for all weights, also those that no adapter of this rank reaches"
    assert expected in found.assumptions


def resumed(directory: Path, smoothness: float) -> Path:
    """Five steps, an interruption, and five more."""
    model = model_with()
    train(directory, model, steps=5)
    optimizer = lorate.create_optimizer(model, "sharp", smoothness=smoothness)
    for group in optimizer.param_groups:
        group["steps"] = 5
    with lorate.Monitor(directory, full_batch=True, resume_at=5) as monitor:
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(X), Y)
            loss.backward()
            optimizer.step(loss=loss)
            monitor.update(optimizer)
    return directory


def test_a_run_that_was_resumed_with_another_L(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "went on with another rule, L" in reason(resumed(tmp_path, L / 2), capsys)


def test_a_resumed_run_says_what_was_not_seen(tmp_path: Path) -> None:
    found = certify(resumed(tmp_path, L))
    assert found.exit_code == 0
    assert "the adapters were left alone before step 6" in found.assumptions


@pytest.mark.parametrize("steps", [9, 13])
def test_an_L_that_changes_on_the_way(steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_with()
    optimizer = lorate.create_optimizer(model, "sharp", smoothness=L)
    with lorate.Monitor(tmp_path, full_batch=True) as monitor:
        for step in range(steps):
            if step == 5:
                object.__setattr__(optimizer.rule, "smoothness", L / 3)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(X), Y)
            loss.backward()
            optimizer.step(loss=loss)
            monitor.update(optimizer)
    assert "went on with another rule, L" in reason(tmp_path, capsys)


def edit_a_frozen_weight(step: int, model: nn.Module) -> None:
    if step == 7:
        weight = next(p for name, p in model.named_parameters() if "base_layer" in name)
        with torch.no_grad():
            weight[0] += 0.01


def test_a_frozen_weight_that_was_edited_is_found_by_evaluating_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody compares the frozen weights: without the evaluation it is one of the things that are assumed."""
    found = certify(train(tmp_path / "one", model_with(), between=edit_a_frozen_weight))
    assert any("same function at every step, as full_batch=True says" in part for part in found.assumptions)
    said = reason(train(tmp_path / "two", model_with(), between=edit_a_frozen_weight, again=True), capsys)
    assert "evaluated again after step 6" in said


def test_losses_that_were_made_up_are_found_by_evaluating_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_with()
    optimizer = lorate.create_optimizer(model, "sharp", smoothness=L)

    def loss_of() -> torch.Tensor:
        return nn.functional.cross_entropy(model(X), Y)

    with lorate.Monitor(tmp_path, full_batch=True, again=loss_of) as monitor:
        for step in range(8):
            optimizer.zero_grad()
            loss_of().backward()
            optimizer.step(loss=5.0 - 0.3 * step)
            monitor.update(optimizer)
    assert "not the same function" in reason(tmp_path, capsys)


def test_what_is_violated_is_followed_by_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, model_with(), data=other_data)
    assert command(["certify", str(tmp_path)]) == 1
    assert "or one of the assumptions is false" in capsys.readouterr().out


def test_edited_records_are_not_found_out(tmp_path: Path) -> None:
    """What remains: whoever can write the files can write a run. The certificate says that it assumes they did not."""
    train(tmp_path, model_with(), data=other_data)
    file = tmp_path / "metrics.jsonl"
    records = [json.loads(text) for text in file.read_text().splitlines()]
    for place, record in enumerate(records):
        record["loss"] = 2.0 - 0.1 * place
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = certify(tmp_path)
    assert found.exit_code == 0 and "the files of the run were not edited" in found.assumptions


@pytest.mark.parametrize(
    ("module", "is_noise"),
    [
        (nn.Dropout2d(0.1), True),
        (nn.Dropout(0.0), False),
        (nn.Dropout(0.1).eval(), False),
        (nn.FeatureAlphaDropout(0.1), True),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.MultiheadAttention(4, 2), False),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.3), True),
        (nn.TransformerEncoderLayer(4, 2, dim_feedforward=4), True),
        (nn.TransformerEncoderLayer(4, 2, dim_feedforward=4, dropout=0.0), False),
        (nn.BatchNorm1d(3), False),
        (nn.Linear(3, 3), False),
    ],
)
def test_noise_of_modules(module: nn.Module, is_noise: bool) -> None:
    assert bool(noise_sources(module)) == is_noise


def test_noise_of_modules_from_elsewhere() -> None:
    class DropPath(nn.Module):
        def __init__(self, drop_prob: float) -> None:
            super().__init__()
            self.drop_prob = drop_prob

    class Attention(nn.Module):
        def __init__(self, attention_dropout: float) -> None:
            super().__init__()
            self.attention_dropout = attention_dropout

    assert noise_sources(nn.Sequential(DropPath(0.0), DropPath(0.1), Attention(0.0), Attention(0.2))) == ["1", "3"]


def test_digests_tell_data_apart() -> None:
    first = {"x": X, "y": [1, 2.0, "a", None, b"b"]}
    assert data_digest(first) == data_digest({"x": X.clone(), "y": [1, 2.0, "a", None, b"b"]})
    others: list[Any] = [{"x": X}, X.numpy(), *({"x": x, "y": first["y"]} for x in (X.float(), -X, X.T))]
    assert len({data_digest(one) for one in [first, *others]}) == 6
    assert data_digest(torch.ones(2, dtype=torch.bfloat16)) != data_digest(torch.ones(2, dtype=torch.float16))
    with pytest.raises(LorateError, match="must be tensors, arrays, numbers or strings"):
        data_digest({"x": object()})
