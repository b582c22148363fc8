"""What only a GPU can show. Run by ``make test-gpu``; without one every test here is skipped."""

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import peft
import pytest
import torch
from torch import nn

import lorate
from lorate.adapters import find_pairs
from lorate.rules import RULES
from optim.every_rule import MINI_BATCH, options
from peft_models import linear_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),
]
X = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


class Task:
    """A model on a device, an optimizer, and a closure over the whole data."""

    def __init__(
        self, device: str, dtype: torch.dtype = torch.float64, model: nn.Module | None = None, **given
    ) -> None:
        self.model = (linear_model(dtype) if model is None else model).to(device)
        self.x, self.y = X.to(device, dtype), Y.to(device, dtype)
        self.optimizer = lorate.create_optimizer(self.model, **given)
        self.closure = self._closure

    def _closure(self) -> torch.Tensor:
        loss = (self.model(self.x).to(self.y.dtype) - self.y).square().mean()
        if loss.requires_grad:
            self.optimizer.zero_grad()
            loss.backward()
        return loss

    def train(self, steps: int) -> list[float]:
        return [float(torch.as_tensor(self.optimizer.step(self.closure)).detach()) for _ in range(steps)]

    def adapters(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten().cpu().clone() for p in self.model.parameters() if p.requires_grad])


@pytest.mark.parametrize("name", RULES)
def test_the_steps_are_those_of_the_processor(name: str) -> None:
    here, there = Task("cuda", **options(name)), Task("cpu", **options(name))
    assert here.train(15) == pytest.approx(there.train(15), rel=1e-8)
    torch.testing.assert_close(here.adapters(), there.adapters(), rtol=1e-6, atol=1e-9)


@contextmanager
def synchronisations() -> Iterator[list[str]]:
    """Places at which the host waited for the device."""
    places: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    own = "torch/cuda/__init__.py"  # where the mode itself is switched
    places += [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message) and own not in w.filename]


@pytest.mark.parametrize("name", [name for name in MINI_BATCH if name not in ("auto", "theory", "sharp", "majorizer")])
def test_a_step_waits_for_the_device_once(name: str) -> None:
    task = Task("cuda", torch.float32, **options(name))
    loss = task.closure().detach()
    task.optimizer.step(loss=loss)
    loss = task.closure().detach()
    with synchronisations() as places:
        task.optimizer.step(loss=loss)
    assert len(places) == 1, places


def test_auto_waits_once_too() -> None:
    task = Task("cuda", torch.float32, rule="auto")
    task.train(30)
    loss = task.closure().detach()
    with synchronisations() as places:
        task.optimizer.step(loss=loss)
    assert len(places) == 1, places


@pytest.mark.parametrize("name", ["auto", "adaptive-loss", "adaptive", "normalized"])
def test_float16_with_a_grad_scaler(name: str) -> None:
    task = Task("cuda", torch.float32, **options(name))
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**20)
    losses = []
    for _ in range(40):
        task.optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = (task.model(task.x).float() - task.y).square().mean()
        scaler.scale(loss).backward()
        scaler.step(task.optimizer, loss=loss.detach())
        scaler.update()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < losses[0]
    assert scaler.get_scale() < 2.0**20 or not task.optimizer.param_groups[0]["skipped"]


@pytest.mark.parametrize("name", ["auto", "adaptive-loss", "adaptive"])
def test_bfloat16_autocast(name: str) -> None:
    task = Task("cuda", torch.float32, **options(name))

    def closure() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = (task.model(task.x).float() - task.y).square().mean()
        if loss.requires_grad:
            task.optimizer.zero_grad()
            loss.backward()
        return loss

    losses = [float(task.optimizer.step(closure).detach()) for _ in range(40)]
    assert min(losses[-5:]) < losses[0]


@pytest.mark.parametrize("name", ["auto", "adaptive", "adaptive-loss"])
def test_a_compiled_model(name: str) -> None:
    plain, model = Task("cuda", torch.float32, **options(name)), linear_model(torch.float32).cuda()
    compiled = Task("cuda", torch.float32, model=torch.compile(model), **options(name))
    assert compiled.train(6) == pytest.approx(plain.train(6), rel=1e-4)


def test_dropout_is_repeated_and_resumed_with_the_same_numbers() -> None:
    def build() -> Task:
        torch.manual_seed(0)
        config = peft.LoraConfig(r=2, target_modules=["0"], lora_dropout=0.3)
        return Task(
            "cuda", torch.float32, model=peft.get_peft_model(nn.Sequential(nn.Linear(6, 6)), config), rule="auto"
        )

    whole, half, rest = build(), build(), build()
    torch.cuda.manual_seed(5)
    whole.train(20)
    torch.cuda.manual_seed(5)
    half.train(9)
    state = torch.cuda.get_rng_state()
    rest.model.load_state_dict(half.model.state_dict())
    rest.optimizer.load_state_dict(copy.deepcopy(half.optimizer.state_dict()))
    torch.cuda.set_rng_state(state)
    rest.train(11)
    assert torch.equal(rest.adapters(), whole.adapters())


def test_fsdp2_over_nccl_on_one_card(tmp_path) -> None:
    import torch.distributed as dist
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
    from torch.distributed.fsdp import fully_shard

    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:

        def sharded() -> nn.Module:
            model = linear_model(torch.float32).cuda()
            for pair in find_pairs(model):
                fully_shard(pair.layer)
            return fully_shard(model)

        plain = Task("cuda", torch.float32, rule="auto")
        task, other = (Task("cuda", torch.float32, model=sharded(), rule="auto") for _ in range(2))
        task.train(6)
        plain.train(6)
        other.model.load_state_dict(task.model.state_dict())
        set_optimizer_state_dict(other.model, other.optimizer, get_optimizer_state_dict(task.model, task.optimizer))
        assert other.train(4) == pytest.approx(plain.train(4), rel=1e-4)
    finally:
        dist.destroy_process_group()


def test_memory_is_a_few_copies_of_the_adapters() -> None:
    def peak(build: Callable[[nn.Module], torch.optim.Optimizer]) -> int:
        torch.manual_seed(0)
        layers = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(8)))
        model = peft.get_peft_model(layers, peft.LoraConfig(r=64, target_modules=[str(i) for i in range(8)])).cuda()
        optimizer, x = build(model), torch.randn(4, 1024, device="cuda")
        torch.cuda.synchronize()
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            if isinstance(optimizer, lorate.LoraOptimizer):
                optimizer.replay = lambda: model(x).square().mean()
                optimizer.step(loss=loss.detach())
            else:
                optimizer.step()
            torch.cuda.reset_peak_memory_stats() if _ == 0 else None
        return torch.cuda.max_memory_allocated() - 4 * 8 * 1024 * 1024

    adapters = 4 * 8 * 2 * 64 * 1024
    adamw = peak(lambda model: torch.optim.AdamW([p for p in model.parameters() if p.requires_grad]))
    ours = peak(lambda model: lorate.create_optimizer(model))
    assert (ours - adamw) / adapters < 8, (ours, adamw, adapters)
