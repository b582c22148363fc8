import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from lorate.errors import LorateError
from lorate.smoothness import hessian_norm, logistic_smoothness


def dense(loss):  # reverse mode twice: forward mode warns about its own internals on import
    return torch.func.jacrev(torch.func.jacrev(loss))


class Network(nn.Module):
    """Two layers of frozen weights and a readout."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second, self.readout = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 3)
        self.double().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(torch.tanh(self.second(torch.tanh(self.first(x)))))


def network_loss(seed: int, size: float) -> tuple[Network, torch.Tensor, torch.Tensor]:
    model = Network(seed)
    for p in model.parameters():
        p.mul_(size)
    generator = torch.Generator().manual_seed(seed)
    return model, torch.randn(20, 5, generator=generator).double(), torch.randint(3, (20,), generator=generator)


def dense_hessian(model: Network, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    names = ("first.weight", "second.weight")
    shapes = [model.get_parameter(name).shape for name in names]
    flat = torch.cat([model.get_parameter(name).flatten() for name in names])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = torch.split(vector, [s.numel() for s in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)

    return dense(loss)(flat).numpy()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [0.3, 1.0, 3.0])
def test_network_agrees_with_dense_hessian_and_lanczos(seed: int, size: float) -> None:
    model, x, y = network_loss(seed, size)
    weights = [model.first.weight, model.second.weight]
    found = hessian_norm(lambda: nn.functional.cross_entropy(model(x), y), weights)
    H = dense_hessian(model, x, y)
    exact = np.linalg.norm(H, 2)
    lanczos = eigsh(LinearOperator(H.shape, matvec=lambda v: H @ v, dtype=H.dtype), k=1, which="LM", v0=np.ones(len(H)))
    assert found.converged
    assert found.value == pytest.approx(exact, rel=1e-3)
    assert found.value == pytest.approx(abs(lanczos[0][0]), rel=1e-3)
    assert found.value <= exact * (1 + 1e-12)


def test_negative_curvature_and_opposite_pairs_count() -> None:
    w = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    assert hessian_norm(lambda: w[0] ** 2 - 4 * w[1] ** 2, [w]).value == pytest.approx(8.0, rel=1e-3)
    assert hessian_norm(lambda: w[0] ** 2 - w[1] ** 2, [w]).value == pytest.approx(2.0, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([30, 300, 3000]), st.floats(0.05, 0.3), st.sampled_from([1.0, -1.0]))
@example(0, 3000, 0.1, 1.0)  # after 6 products the residual is small at the cluster
def test_the_largest_of_all_is_found_beside_a_cluster_of_others(seed: int, size: int, gap: float, sign: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(size, generator=draw, dtype=torch.float64) - 0.5
    values[: size // 2] = 1 - gap - 0.02 * values[: size // 2].abs()
    values[0] = sign
    w = torch.zeros(size, dtype=torch.float64)
    found = hessian_norm(lambda: (values * w) @ w / 2, [w], tolerance=0.02)
    assert 0.98 <= found.value <= 1 + 1e-12
    assert found.iterations <= 40


def test_a_small_space_is_exhausted_before_twenty_products() -> None:
    w = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    found = hessian_norm(lambda: w[0] ** 2 - 4 * w[1] ** 2 + 3 * w[2] ** 2, [w])
    assert found.converged and found.iterations == 3 and found.value == pytest.approx(8.0, rel=1e-12)


def test_never_above_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(2, (40,), generator=generator)
    W = torch.zeros(2, 6, dtype=torch.float64)
    found = hessian_norm(lambda: nn.functional.cross_entropy(X @ W.T, y), [W]).value
    assert found == pytest.approx(logistic_smoothness(X.numpy()), rel=1e-3)


def test_attention_is_differentiated_twice() -> None:
    torch.manual_seed(0)
    q = torch.randn(1, 1, 4, 3, dtype=torch.float64)
    x = torch.randn(1, 1, 4, 3, dtype=torch.float64)

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q @ weight, x, x).square().sum()

    weight = torch.randn(3, 3, dtype=torch.float64)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        exact = torch.linalg.matrix_norm(dense(loss)(weight).reshape(9, 9), 2)
    assert hessian_norm(lambda: loss(weight), [weight]).value == pytest.approx(float(exact), rel=1e-3)


def test_state_is_left_as_it_was() -> None:
    model, x, y = network_loss(0, 1.0)
    model.second.weight.requires_grad_(True)
    weights = [model.first.weight, model.second.weight]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = hessian_norm(lambda: nn.functional.cross_entropy(model(x), y), weights)
    assert torch.rand(1) == expected
    assert first == hessian_norm(lambda: nn.functional.cross_entropy(model(x), y), weights)
    assert [w.requires_grad for w in weights] == [False, True]
    assert all(w.grad is None for w in weights)
    with pytest.raises(ZeroDivisionError):
        hessian_norm(lambda: 1 / 0, weights)  # type: ignore[arg-type, return-value]
    assert [w.requires_grad for w in weights] == [False, True]


def test_limits_and_errors() -> None:
    w = torch.ones(2, dtype=torch.float64)
    other = torch.ones(2, dtype=torch.float64)
    assert hessian_norm(lambda: 3 * w.sum(), [w]).value == 0.0
    identity = hessian_norm(lambda: w @ w / 2, [w])
    assert identity.value == pytest.approx(1.0, rel=1e-12)
    assert identity.iterations <= 2
    assert hessian_norm(lambda: w[0] ** 2, [w, other]).value == pytest.approx(2.0)
    assert not hessian_norm(lambda: (w * torch.tensor([1.0, 0.9])) @ w, [w], max_iterations=1, tolerance=1e-9).converged
    with pytest.raises(LorateError, match="does not depend"):
        hessian_norm(lambda: other.sum(), [w])
    with pytest.raises(LorateError, match="finite scalar"):
        hessian_norm(lambda: w, [w])
    with pytest.raises(LorateError, match="finite scalar"):
        hessian_norm(lambda: w.sum() / 0, [w])
    with pytest.raises(LorateError, match="Hessian is not finite"):
        hessian_norm(lambda: (w - 1).abs().pow(1.5).sum(), [w])
    with pytest.raises(LorateError, match="at least one parameter"):
        hessian_norm(lambda: w.sum(), [])
    # model.parameters() is a generator
    assert hessian_norm(lambda: w @ w / 2, iter([w])).value == pytest.approx(1.0)
    with pytest.raises(LorateError, match="at least one parameter"):
        hessian_norm(lambda: w.sum(), iter([]))
