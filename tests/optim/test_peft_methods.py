"""Rules that need no LoRA train every method of PEFT; the others refuse it by name. A page shows it."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from _peft_methods import LORA, UNFIT, base, build, inputs, names

import lorate
from lorate.errors import LorateError

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "adapters.md"
ANY: dict[str, dict[str, Any]] = {"auto": {}, "normalized": {}, "adaptive-loss": {}, "constant": {"lr": 0.01}}
PLAIN = {"LORA", *(f"LORA, {kind}" for kind in ("rsLoRA", "bias", "all-linear and head", "embeddings"))}
"""What all rules train."""


def train(name: str, rule: str, steps: int = 4, **options: Any) -> tuple[list[float], bool, lorate.LoraOptimizer]:
    """Losses of one batch, whether every step was taken and something moved."""
    model = build(name).train()
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    optimizer = lorate.create_optimizer(model, rule, **options)
    tokens = torch.randint(2, 32, (4, 12), generator=torch.Generator().manual_seed(0))

    def closure() -> torch.Tensor:
        loss: torch.Tensor = model(**inputs(name, tokens)).loss
        if loss.requires_grad:
            optimizer.zero_grad()
            loss.backward()
        return loss

    losses, taken = [], True
    for _ in range(steps):
        losses.append(float(torch.as_tensor(optimizer.step(closure)).detach()))
        taken = taken and optimizer.last is not None and optimizer.last.skipped is None
    optimizer.finish()
    after = [p for p in model.parameters() if p.requires_grad]
    return losses, taken and any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), optimizer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", names())
def test_rules_without_lora_train_it(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    for rule, options in ANY.items():
        losses, moved, optimizer = train(name, rule, **options)
        assert moved, rule
        assert all(torch.isfinite(torch.tensor(losses)))
        assert bool(optimizer.layers) == (name in PLAIN | {"LORA, DoRA", "LORA, two adapters"})
        state = optimizer.state_dict()
        again = lorate.create_optimizer(build(name), rule, **options)
        again.load_state_dict(state)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("rule", ["majorizer", "adaptive"])
def test_the_other_rules_refuse_it_by_name(name: str, rule: str, capfd: pytest.CaptureFixture[str]) -> None:
    options = {"smoothness": 1.0} if rule == "majorizer" else {}
    if name in PLAIN:
        lorate.create_optimizer(build(name), rule, **options)
        return
    with pytest.raises(LorateError) as caught:
        lorate.create_optimizer(build(name), rule, **options)
    word = {
        "LORA, DoRA": "DoRA",
        "LORA, aLoRA": "ALora",
        "LORA, parameters": "ParamWrapper",
        "LORA, two adapters": "found 2",
        "LORA, frozen A": "frozen",
        "no adapter": "no LoRA layers",
    }.get(name, name)
    assert word in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_auto_takes_auto_steps_on_a_whole_model() -> None:
    losses, _, optimizer = train("no adapter", "auto", 40)
    assert losses[-1] < 0.8 * losses[0]
    assert optimizer.rule.control.steps > 30  # type: ignore[attr-defined]


def test_what_would_train_nothing_is_refused() -> None:
    model = base().requires_grad_(False)
    with pytest.raises(LorateError, match="nothing in the model is trainable"):
        lorate.create_optimizer(model)
    wrapped = peft.get_peft_model(base(), peft.LoraConfig(**LORA, modules_to_save=["lm_head"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(False)
    with pytest.raises(LorateError, match=r"LoRA pairs are frozen.*is_trainable=True"):
        lorate.create_optimizer(wrapped)
    wrapped = peft.get_peft_model(base(), peft.LoraConfig(**LORA))
    wrapped.base_model.disable_adapter_layers()
    with pytest.raises(LorateError, match="are switched off"):
        lorate.create_optimizer(wrapped)
    hadamard = peft.get_peft_model(base(), peft.LoHaConfig(r=2, target_modules=["q_proj"]))
    hadamard.merge_adapter()
    with pytest.raises(LorateError, match="is merged into"):
        lorate.create_optimizer(hadamard)


def table() -> str:
    """Of the page: what is trained by which rules."""
    lines = ["| Method | `auto`, `normalized`, `adaptive-loss`, `constant` | the other rules |", "|---|---|---|"]
    for name in names():
        lines.append(f"| {name} | yes | {'yes' if name in PLAIN else 'refused by name'} |")
    return "\n".join(
        [*lines, *(f"| {name} | not tried: {reason} | refused by name |" for name, reason in UNFIT.items())]
    )


def test_the_page_shows_what_was_found() -> None:
    """The tests above are what the table says; write it with ``print(table())`` where PEFT brings a new method."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.split("<!-- methods -->\n")[1].split("\n<!-- /methods -->")[0] == table()
