"""A rule of a user's own, as the documentation writes it, and as CONTRIBUTING says that it joins the others."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lorate
from lorate.rules import Rule
from peft_models import linear_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "own-rule.md").read_text(encoding="utf-8")
CODE = PAGE.split("```python\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def own_rule() -> type[Rule]:
    namespace: dict[str, object] = {"__name__": "own"}
    exec(CODE, namespace)
    return namespace["AdaGradNorm"]


def test_it_is_short() -> None:
    assert len(CODE.split("@dataclass")[1].splitlines()) <= 30


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    x = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step(loss=loss)


def test_its_steps_are_those_of_the_formula(own_rule: type[Rule]) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, own_rule(), lr=0.5)
    total = 0.0
    for _ in range(5):
        train(model, optimizer, 1)
        total += optimizer.last.measurement.scaled_gradient_norm**2
        assert optimizer.last.eta == pytest.approx(0.5 / total**0.5)


def test_its_state_survives_a_checkpoint(own_rule: type[Rule], tmp_path: Path) -> None:
    model, twin = linear_model(), linear_model()
    optimizer = lorate.create_optimizer(model, own_rule(), lr=0.5)
    train(model, optimizer, 4)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    twin.load_state_dict(model.state_dict())
    resumed = lorate.create_optimizer(twin, own_rule(), lr=0.5)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(model, optimizer, 3)
    train(twin, resumed, 3)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.slow
def test_contributing_it_takes_one_file_and_one_line_and_the_rest_is_asked_for(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for part in ("src", "tests", "docs", "pyproject.toml"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, clone / part)
    body = CODE.replace("from lorate import Line, Measurement, Rule, StepSizes\n", "").replace(
        "from lorate.rules import safe_ratio, scale_correct",
        "from lorate.measurement import Measurement\nfrom lorate.rules.line import Line\n"
        "from lorate.rules.rule import Rule\n"
        "from lorate.rules.step_sizes import StepSizes, safe_ratio, scale_correct",
    )
    (clone / "src/lorate/rules/adagrad_norm.py").write_text(
        '"""AdaGrad with one number."""\n\n' + body, encoding="utf-8"
    )
    table = clone / "src/lorate/rules/__init__.py"
    text = table.read_text(encoding="utf-8")
    line = "from lorate.rules.adaptive import Adaptive\n"
    assert line in text
    text = text.replace(line, "from lorate.rules.adagrad_norm import AdaGradNorm\n" + line)
    table.write_text(re.sub(r"for rule in \(", "for rule in (AdaGradNorm, ", text, count=1), encoding="utf-8")

    def check(*tests: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", *tests, "-k", "adagrad"]
        environment = {"PYTHONPATH": str(clone / "src"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(command, cwd=clone, capture_output=True, text=True, env=environment)

    common = check("tests/optim/test_every_rule.py", "tests/optim/test_state.py")
    assert common.returncode == 0, common.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", common.stdout)[1]) > 15
    missing = check("tests/rules/test_rules.py")
    assert missing.returncode == 1
    assert "docs/rules.md does not say when to take rule 'adagrad-norm': add a row" in missing.stdout
