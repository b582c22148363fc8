"""The direction of auto, against a readable form of it for one factor."""

import pytest
import torch
from torch import Tensor

from lorate.optim.layout import Slot
from lorate.optim.whitening import LARGEST_SIDE, RankWhitening


def slot(gradient: Tensor) -> Slot:
    parameter = torch.nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient
    return Slot(parameter, None, {})


class Readable:
    """One factor, its rank side first, in float64."""

    def __init__(self) -> None:
        self.L = self.U = self.v = None
        self.weight = 0.0

    def __call__(self, h: Tensor) -> Tensor:
        if self.L is None:
            self.L, self.v, self.U = 0 * (h @ h.T), 0 * h, torch.eye(len(h), dtype=h.dtype)
        if not h.any():
            return 0 * h
        self.L = 0.99 * self.L + 0.01 * h @ h.T
        U = torch.linalg.qr(self.L @ self.U / self.L.trace() + 1e-3 * self.U).Q
        P = U.T @ self.U
        self.v, self.U = (P * P) @ self.v, U
        turned = U.T @ h
        self.v = 0.999 * self.v + 0.001 * turned**2
        self.weight = 0.999 * self.weight + 0.001
        v = self.v / self.weight
        root = v.sqrt() + 1e-6 * v.mean().sqrt()
        D = -U @ torch.where(root > 0, turned / root, 0.0)
        return D / max(1.0, float(D.square().mean().sqrt()))


def gradients(shape: tuple[int, ...], count: int = 12, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    for i, batch in enumerate(draw):
        batch *= {3: 0, 7: 40}.get(i, 1)  # one without a trained token, and one that is much steeper
    return draw


def test_equals_the_readable_form_for_both_factors_of_two_layers() -> None:
    direction, readable = RankWhitening(), [Readable() for _ in range(4)]
    for A1, B1, A2, B2 in zip(
        *(gradients(s, seed=i) for i, s in enumerate([(3, 7), (5, 3), (3, 7), (5, 3)])), strict=True
    ):
        found = direction([slot(g) for g in (A1, B1, A2, B2)])
        expected = [readable[0](A1), readable[1](B1.T).T, readable[2](A2), readable[3](B2.T).T]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_rotating_the_rank_side_rotates_the_direction() -> None:
    # what Adam lacks: B A = (B Q')(Q A), and which Q was drawn must not matter once the basis has been found
    Q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))).Q
    sizes = torch.tensor([[3.0], [1.0], [0.3]], dtype=torch.float64)
    plain, rotated = RankWhitening(), RankWhitening()
    for g in gradients((3, 40), 400):
        one, other = plain([slot(sizes * g)])[0], rotated([slot(Q @ (sizes * g))])[0]
    assert (Q @ one - other).norm() < 0.05 * one.norm()
    assert (one - other).norm() > 0.5 * one.norm()


@pytest.mark.parametrize(
    "shape", [(4,), (1, 6), (6, 1), (2, 3, 3, 3), (7, 2, 1, 1), (LARGEST_SIDE + 1, LARGEST_SIDE + 2), ()]
)
def test_any_shape_has_a_direction_that_descends(shape: tuple[int, ...]) -> None:
    direction = RankWhitening()
    for g in gradients(shape, 4)[:3]:
        (found,) = direction([slot(g)])
        assert found.shape == g.shape
        assert float((found * g).sum()) < 0
        assert float(found.square().mean().sqrt()) <= 1 + 1e-9


@pytest.mark.parametrize("scale", [1e-6, 1e6, 1e12])
def test_the_scale_of_the_loss_cancels(scale: float) -> None:
    plain, scaled = RankWhitening(), RankWhitening()
    for g in gradients((3, 7)):
        one, other = plain([slot(g.float())])[0], scaled([slot(scale * g.float())])[0]
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_coordinates_of_rounding_errors_hardly_move() -> None:
    # gradients of rank 1 in float32: three coordinates of four hold rounding errors alone
    generator, direction = torch.Generator().manual_seed(0), RankWhitening()
    left = torch.randn(4, 1, generator=generator)
    for step in range(20):
        g = left @ torch.randn(1, 9, generator=generator)
        (found,) = direction([slot(g)])
        unit = left / left.norm()
        aside = found - unit @ (unit.T @ found)
        assert step == 0 or aside.norm() < 0.2 * found.norm()  # the first basis is not yet pure


def test_zero_gradients_leave_the_moments_as_they_are() -> None:
    direction, twin = RankWhitening(), RankWhitening()
    first, second = gradients((3, 7), 2)
    direction([slot(first)])
    for _ in range(100):
        (still,) = direction([slot(0 * first)])
        assert not still.any()
    twin([slot(first)])
    torch.testing.assert_close(direction([slot(second)])[0], twin([slot(second)])[0], rtol=0, atol=0)


def test_it_goes_on_from_its_state() -> None:
    data = gradients((3, 7), 10)
    whole, half, again = RankWhitening(), RankWhitening(), RankWhitening()
    for g in data[:5]:
        whole([slot(g), slot(g[0])])
        half([slot(g), slot(g[0])])
    again.load_state_dict(half.state_dict([slot(data[0]), slot(data[0][0])]), [slot(data[0]), slot(data[0][0])])
    for g in data[5:]:
        for one, other in zip(whole([slot(g), slot(g[0])]), again([slot(g), slot(g[0])]), strict=True):
            assert torch.equal(one, other)


def test_gradients_are_only_read() -> None:
    g = gradients((3, 7))[0]
    before = g.clone()
    RankWhitening()([slot(g)])
    assert torch.equal(g, before)
