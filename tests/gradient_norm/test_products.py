"""Inner products with G and bounds of its spectral norm, against autograd."""

import pytest
import torch

from lorate.adapters import LoraPair, factor_blocks, find_pairs
from lorate.errors import LorateError
from lorate.gradient_norm import GradientCapture
from lorate.gradient_norm import capture as module
from peft_models import mixed_model

from .models import spectral_bounds

TOKENS = torch.randint(0, 11, (7, 8), generator=torch.Generator().manual_seed(3))


def captured(method: str, **options: object) -> tuple[GradientCapture, list[LoraPair]]:
    """A capture after a backward pass, and the pairs; the same model each time."""
    torch.manual_seed(0)
    model = mixed_model()
    pairs = find_pairs(model)
    with torch.no_grad():
        for pair in pairs:
            pair.A.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
            pair.B.normal_(std=0.3, generator=torch.Generator().manual_seed(2))
    capture = GradientCapture(pairs, method=method, **options).attach()
    model(TOKENS).square().sum().backward()
    return capture, pairs


@pytest.mark.parametrize("chunk", [False, True])
def test_inner_product_is_the_second_derivative_of_the_product(chunk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """<gB, B> = s <G, B A>: LoRA's own gradients know <G, D_B D_A> for D = (A, B)."""
    if chunk:  # keep G itself instead of the rows
        monkeypatch.setattr("lorate.gradient_norm.sums.gram_is_cheaper", lambda *_: False)
    capture, pairs = captured("exact")
    blocks = [factor_blocks(p.A.detach(), p.B.detach(), p.groups) for p in pairs]
    expected = torch.stack([(p.B.grad * p.B).sum() / p.scaling for p in pairs]).detach()
    products = capture.inner_products([a for a, _ in blocks], [b for _, b in blocks])
    torch.testing.assert_close(products, expected, rtol=1e-10, atol=1e-12)


def test_the_sketch_converges_to_it() -> None:
    exact, pairs = captured("exact")
    sketched, _ = captured("sketch", probes=20_000)
    blocks = [factor_blocks(p.A.detach(), p.B.detach(), p.groups) for p in pairs]
    A, B = [a for a, _ in blocks], [b for _, b in blocks]
    sizes = exact.norms() * torch.stack([(b @ a).norm() for a, b in blocks])
    error = (sketched.inner_products(A, B) - exact.inner_products(A, B)).abs() / sizes
    assert error.max() < 0.03


@pytest.mark.parametrize("limit", [256, 5])
def test_spectral_bounds_lie_between_both_norms(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPECTRAL_LIMIT", limit)
    capture, _ = captured("exact")
    frobenius, bounds = capture.norms(), spectral_bounds(capture)
    spectral = torch.stack([torch.linalg.matrix_norm(tap.whole(), ord=2) for tap in capture._taps])
    small = torch.tensor([limit > 5, limit > 5, True])  # the smaller sides are 11, 6 and 5
    torch.testing.assert_close(bounds[small], spectral[small], rtol=1e-3, atol=0)
    torch.testing.assert_close(bounds[~small], frobenius[~small])
    assert (bounds >= spectral * (1 - 1e-12)).all()


def test_a_sketch_bounds_nothing() -> None:
    capture, _ = captured("sketch")
    with pytest.raises(LorateError, match="a sketch bounds no norm"):
        capture.numbers(bounds=True)
