"""Rule auto as docs/auto.md defines it, small print included, written from that page and equal in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

import lorate
from peft_models import linear_model


class Factor:
    """One parameter's direction."""

    def __init__(self, size: torch.Size) -> None:
        side = min(size)
        self.C, self.U, self.v = torch.zeros(side, side).double(), torch.eye(side).double(), torch.zeros(()).double()
        self.k = 0

    def direction(self, g: Tensor) -> Tensor:
        if g.shape[0] > g.shape[1]:
            return self.direction(g.T).T
        if not g.any():
            return torch.zeros_like(g)
        self.C = 0.99 * self.C + 0.01 * g @ g.T
        if len(g) > 1:
            new = torch.linalg.qr(self.C @ self.U / self.C.trace() + 1e-3 * self.U).Q
            self.v = (new.T @ self.U) ** 2 @ self.v.expand_as(g)
            self.U = new
        self.k += 1
        self.v = 0.999 * self.v + 0.001 * (self.U.T @ g) ** 2
        v = self.v / (1 - 0.999**self.k)
        D = -self.U @ (self.U.T @ g / (v.sqrt() + 1e-6 * v.mean().sqrt()))
        return D / max(1.0, float(D.square().mean().sqrt()))


class Page:
    def __init__(self, y: Tensor, sizes: list[torch.Size]) -> None:
        self.factors, self.sizes = [Factor(size) for size in sizes], sizes
        self.z, self.x, self.y = y, y, y
        self.s_z = self.s_x = self.moved = torch.zeros_like(y)
        self.t, self.u, self.eta = 0, 0.0, 0.0
        self.squares = {"average": 0.0, "end": 0.0}

    def counted(self, name: str, slope: float) -> tuple[float, float, bool]:
        """The slope as it counts, R with it, and whether it was uphill by more than 8 times R before."""
        limit = math.inf
        if self.t > 1:
            limit = 8 * math.sqrt(self.squares[name] / (1 - 0.9 ** (self.t - 1)))
        counts = max(-limit, min(limit, slope))
        self.squares[name] = 0.9 * self.squares[name] + 0.1 * counts**2
        return counts, math.sqrt(self.squares[name] / (1 - 0.9**self.t)), slope > limit

    def step(self, g: Tensor) -> None:
        if self.t > 0:
            c, R, too_far = self.counted("average", float(g @ self.s_x))
            _, _, too_steep = self.counted("end", float(g @ self.moved) / self.eta)
            excess = c / R - 10 / (self.t + 10 + 20 * self.u)
            gain = max(0.03, min(0.5, 3 / self.t))
            self.eta *= 0.5 if too_far or too_steep else math.exp(-gain * max(-1, min(1, excess)))
            self.u += max(0, min(1, excess))
        parts = g.split([size.numel() for size in self.sizes])
        D = torch.cat(
            [f.direction(p.view(n)).flatten() for f, p, n in zip(self.factors, parts, self.sizes, strict=True)]
        )
        if self.t == 0:
            self.eta = 1e-4 / float(D.square().mean().sqrt())
        self.t += 1
        w = 3 / (self.t + 2)
        self.s_z = 0.95 * self.s_z + self.eta * D
        self.s_x = (1 - w) * self.s_x + w * self.s_z
        self.z = self.z + self.eta * D
        self.x = (1 - w) * self.x + w * self.z
        self.moved = (self.z + self.x) / 2 - self.y
        self.y = self.y + self.moved


@pytest.mark.parametrize("rank", [1, 3])
def test_the_page_defines_every_number(rank: int) -> None:
    model = linear_model(r=rank)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = lorate.create_optimizer(model)
    page = Page(nn.utils.parameters_to_vector(trained).detach(), [p.shape for p in trained])
    generator, overshot = torch.Generator().manual_seed(0), 0
    for step in range(120):
        x, y = torch.randn(2, 8, 6, dtype=torch.float64, generator=generator)
        optimizer.zero_grad()
        loss = (1e3 if step in (70, 90) else 1.0) * (model(x) - y).square().mean()
        loss.backward()
        page.step(torch.cat([p.grad.flatten() for p in trained]))
        optimizer.step(loss=loss)
        overshot = optimizer.rule.control.overshoots
        assert optimizer.rule.control.eta == pytest.approx(page.eta, rel=1e-10), step
        torch.testing.assert_close(nn.utils.parameters_to_vector(trained).detach(), page.y, rtol=1e-10, atol=1e-12)
    assert overshot > 0  # the limits were met too
