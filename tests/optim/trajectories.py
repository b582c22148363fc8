"""Twenty steps of every rule on one small problem, as plain numbers: what a change of the optimizer must not change.

``python tests/optim/trajectories.py`` writes the reference anew, which is right only where a rule was meant to change.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn

import lorate
from lorate.rules import Alternate, Majorizer, Relative, Sharp

REFERENCE = Path(__file__).parent / "reference" / "trajectories.json"
STEPS = 20

adamw = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)
momentum = partial(torch.optim.SGD, lr=1e-1, momentum=0.9)

CASES: dict[str, dict[str, Any]] = {
    "constant": {"rule": "constant", "lr": 0.05},
    "theory": {"rule": "theory", "smoothness": 2.0},
    "adaptive, exact": {"rule": "adaptive", "lr": 2.0, "gradient_norm": "exact"},
    "adaptive-loss": {"rule": "adaptive-loss", "lr": 2.0},
    "normalized": {"rule": "normalized", "lr": 0.3},
    "sharp": {"rule": "sharp", "smoothness": 2.0},
    "sharp, one for all": {"rule": Sharp(2.0, per_layer=False)},
    "one-factor": {"rule": "one-factor", "smoothness": 2.0},
    "majorizer": {"rule": "majorizer", "smoothness": 2.0},
    "majorizer, one for all": {"rule": Majorizer(2.0, per_layer=False)},
    "majorizer, AdamW": {"rule": "majorizer", "smoothness": 2.0, "direction": adamw},
    "backtracking": {"rule": "backtracking"},
    "backtracking, momentum": {"rule": "backtracking", "direction": momentum},
    "relative": {"rule": "relative", "lr": 0.05},
    "relative, AdaGrad": {"rule": Relative(adagrad=True), "lr": 1.0},
    "alternate": {"rule": "alternate", "smoothness": 2.0},
    "alternate, nothing known": {"rule": Alternate(order="turns")},
    "auto": {"rule": "auto"},
    "auto, momentum": {"rule": "auto", "direction": momentum},
}


def make_model() -> nn.Module:
    """Two layers of LoRA and a trainable head, in float64."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2"], modules_to_save=["4"])
    adapted = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.3 * values)
    return adapted


def digest(model: nn.Module) -> str:
    """Of every bit of what is trained."""
    found = hashlib.sha256()
    for parameter in model.parameters():
        if parameter.requires_grad:
            found.update(parameter.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def length(model: nn.Module) -> float:
    """Norm of what is trained."""
    return float(torch.stack([p.detach().square().sum() for p in model.parameters() if p.requires_grad]).sum().sqrt())


def evaluation(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], Tensor]:
    """The loss over the whole data, and its gradients where they are wanted."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(24, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (24,), generator=generator)

    def closure() -> Tensor:
        loss = nn.functional.cross_entropy(model(x), y)
        if loss.requires_grad:
            optimizer.zero_grad()
            loss.backward()
        return loss

    return closure


def trajectory(options: dict[str, Any]) -> list[dict[str, Any]]:
    """One record a step; ``lr`` halves after ten of them, as by a scheduler."""
    model = make_model()
    torch.manual_seed(6)
    optimizer = lorate.create_optimizer(model, **options)
    closure = evaluation(model, optimizer)
    records = []
    for step in range(STEPS):
        if step == 10:
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
        loss = optimizer.step(closure)
        last = optimizer.last
        assert loss is not None and last is not None
        records.append(
            {
                "loss": float(torch.as_tensor(loss).detach()).hex(),
                "eta": float(last.eta).hex(),
                "guarantee": None if last.guarantee is None else float(last.guarantee).hex(),
                "skipped": last.skipped is not None,
                "length": length(model).hex(),
                "digest": digest(model),
            }
        )
    return records


def plain() -> list[str]:
    """Digests of torch's own SGD on the same problem: the same where a machine rounds as the reference's did."""
    model = make_model()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    closure = evaluation(model, optimizer)
    return [digest(model) for _ in range(STEPS) if optimizer.step(closure) is not None]


def everything() -> dict[str, Any]:
    """What the reference holds."""
    return {"plain": plain(), "rules": {name: trajectory(options) for name, options in CASES.items()}}


if __name__ == "__main__":
    REFERENCE.write_text(json.dumps(everything(), indent=1) + "\n", encoding="utf-8")
