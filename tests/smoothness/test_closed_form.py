import numpy as np
import pytest
import torch

from lorate.errors import LorateError
from lorate.smoothness import least_squares_smoothness, logistic_smoothness


def largest_curvature(loss, W: torch.Tensor) -> float:
    H = torch.func.jacrev(torch.func.jacrev(loss))(W).reshape(W.numel(), W.numel())
    return float(torch.linalg.eigvalsh(H)[-1])


def data(seed: int, classes: int, examples: int = 30, features: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(examples, features, generator=generator, dtype=torch.float64) + 0.5
    return X, torch.randint(classes, (examples,), generator=generator)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_logistic_is_never_exceeded(classes: int) -> None:
    X, y = data(classes, classes)
    L = logistic_smoothness(X.numpy())
    generator = torch.Generator().manual_seed(0)
    for size in (0.0, 0.1, 1.0, 10.0):
        W = size * torch.randn(classes, 4, generator=generator, dtype=torch.float64)
        assert largest_curvature(lambda W: torch.nn.functional.cross_entropy(X @ W.T, y), W) <= L * (1 + 1e-12)


def test_logistic_is_attained_by_two_classes_at_zero() -> None:
    X, y = data(0, 2)
    W = torch.zeros(2, 4, dtype=torch.float64)
    exact = largest_curvature(lambda W: torch.nn.functional.cross_entropy(X @ W.T, y), W)
    assert logistic_smoothness(X.numpy()) == pytest.approx(exact, rel=1e-12)


def test_logistic_is_approached_by_many_classes_when_two_share_the_probability() -> None:
    X, y = data(0, 5)
    X = torch.cat([X, torch.ones(30, 1, dtype=torch.float64)], dim=1)
    W = torch.zeros(5, 5, dtype=torch.float64)
    W[2:, -1] = -30.0  # a bias that rules three classes out
    exact = largest_curvature(lambda W: torch.nn.functional.cross_entropy(X @ W.T, y), W)
    assert logistic_smoothness(X[:, :-1].numpy(), bias=True) == pytest.approx(exact, rel=1e-9)
    assert logistic_smoothness(X.numpy()) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("examples", "features"), [(30, 4), (3, 8)])
def test_least_squares_equals_the_hessian(examples: int, features: int) -> None:
    X, _ = data(1, 2, examples, features)
    Y = torch.zeros(examples, 3, dtype=torch.float64)
    W = torch.randn(3, features, dtype=torch.float64)
    L = least_squares_smoothness(X.numpy())
    assert largest_curvature(lambda W: ((X @ W.T - Y) ** 2).sum() / 2 / examples, W) == pytest.approx(L, rel=1e-9)
    assert largest_curvature(lambda W: torch.nn.functional.mse_loss(X @ W.T, Y), W) == pytest.approx(
        L * 2 / 3, rel=1e-9
    )
    b = torch.ones(examples, 1, dtype=torch.float64)
    joint = torch.cat([W, W[:, :1]], dim=1)
    exact = largest_curvature(lambda W: ((torch.cat([X, b], 1) @ W.T - Y) ** 2).sum() / 2 / examples, joint)
    assert least_squares_smoothness(X.numpy(), bias=True) == pytest.approx(exact, rel=1e-9)


def test_bad_features_are_refused() -> None:
    for features in (np.zeros(3), np.zeros((0, 3))):
        with pytest.raises(LorateError, match=r"finite matrix.*its shape is"):
            logistic_smoothness(features)
    with pytest.raises(LorateError, match=r"finite matrix.*3 of its 4 numbers are NaN or infinite"):
        logistic_smoothness([[np.nan, np.inf], [-np.inf, 1.0]])
    assert least_squares_smoothness(np.zeros((2, 2))) == 0.0
