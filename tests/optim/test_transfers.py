"""A step waits for the device once: when it brings the numbers of the rule to the host.

There may be no second device here, so what would wait for one is counted: reading a tensor's value, and operations
whose result has a size that only the device knows.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import lorate
from lorate.adapters import find_pairs
from peft_models import linear_model, mixed_model

READING = {Tensor.cpu, Tensor.tolist, Tensor.numpy}  # on the CPU these dispatch nothing
WAITING = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal", "_linalg_check_errors"}


class Waits(TorchDispatchMode):
    """Counts what would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self._values = _Values(self.found)

    def __enter__(self) -> "Waits":
        self._values.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._values.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in WAITING or masks:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


class _Values(TorchFunctionMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in READING and not getattr(args[0], "on_host", False):
            self.found[func.__name__] += 1
        if func is Tensor.cpu:
            result.on_host = True
        return result


RULES: list[tuple[str, dict[str, Any]]] = [
    ("constant", {"lr": 0.1}),
    ("theory", {"smoothness": 9.0}),
    ("adaptive", {"gradient_norm": "sketch"}),
    ("adaptive", {"gradient_norm": "exact"}),
    ("adaptive-loss", {}),
    ("normalized", {"lr": 0.1}),
    ("sharp", {"smoothness": 9.0}),
    ("sharp", {"smoothness": 9.0, "gradient_norm": "sketch"}),
    ("one-factor", {"smoothness": 9.0}),
    ("majorizer", {"smoothness": 9.0}),
    ("majorizer", {"smoothness": 9.0, "gradient_norm": "sketch"}),
]


def waits_of_a_step(model: torch.nn.Module, x: Tensor, rule: str, options: dict[str, Any]) -> Counter[str]:
    optimizer = lorate.create_optimizer(model, rule, **options)
    for number in range(2):  # the first step draws the sketch's signs
        optimizer.zero_grad()
        with Waits() as waits:
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step(loss=loss)
        assert optimizer.last.number == number + 1 and optimizer.last.skipped is None
    return waits.found


@pytest.mark.parametrize(("rule", "options"), RULES)
def test_every_kind_of_layer(rule: str, options: dict[str, Any]) -> None:
    model = mixed_model(modules_to_save=["head"])
    for pair in find_pairs(model):
        torch.nn.init.normal_(pair.B, std=0.3)
        torch.nn.init.normal_(pair.A, std=0.3)
    assert waits_of_a_step(model, torch.randint(0, 11, (7, 8)), rule, options) == {"cpu": 1}


@pytest.mark.parametrize(("rule", "options"), RULES)
def test_few_rows(rule: str, options: dict[str, Any]) -> None:
    """Exact norms come from Gram matrices here, which might have lost digits."""
    x = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert waits_of_a_step(linear_model(), x, rule, options) == {"cpu": 1}


def test_a_norm_that_lost_its_digits_is_taken_again() -> None:
    """Two equal rows with nearly opposite gradients: Gram matrices in float32 see nothing but rounding."""
    model = peft.get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(40, 50)), peft.LoraConfig(r=2, target_modules=["0"])
    )
    x = torch.randn(1, 40).expand(2, 40)
    direction = torch.randn(50)
    optimizer = lorate.create_optimizer(model, "adaptive", gradient_norm="exact")
    with Waits() as waits:
        y = model(x)
        ((y[0] - (1 - 1e-4) * y[1]) @ direction).backward()
        optimizer.step()
    assert waits.found == {"cpu": 2}
    truth = 1e-4 * direction.norm() * x[0].norm()
    assert optimizer.last.measurement.weight_grad_sq.item() ** 0.5 == pytest.approx(truth.item(), rel=1e-3)


def test_a_torch_direction_waits_once_more_before_its_moments_see_the_gradient() -> None:
    options = {"smoothness": 9.0, "direction": torch.optim.SGD}
    assert waits_of_a_step(linear_model(), torch.ones(2, 6).double(), "majorizer", options) == {"cpu": 2}


def test_the_counter_sees_what_waits() -> None:
    x = torch.ones(3)
    with Waits() as waits:
        float(x[0])
        bool(x[0] > 0)
        x[x > 0]
        (2 * x).cpu().numpy()
        x.tolist()
        x.unique()
    assert waits.found["_local_scalar_dense"] == 2
    assert waits.found["index"] == waits.found["cpu"] == waits.found["tolist"] == waits.found["_unique2"] == 1
    assert "numpy" not in waits.found
