r"""Losses whose smoothness constant is known: multinomial logistic regression and least squares.

Both depend on the weights through the scores $Wx_i$ only, so their Hessian is a mean of Kronecker products
$h_i \otimes x_ix_i^T$ and $L = \sup\|h\|_2\cdot\lambda_{\max}\bigl(\tfrac1N\sum_i x_ix_i^T\bigr)$.
Source: docs/mathematics/smoothness.md.
"""

import numpy as np
from numpy.typing import ArrayLike

from lorate.errors import LorateError


def logistic_smoothness(features: ArrayLike, *, bias: bool = False) -> float:
    r"""L of multinomial logistic regression (softmax and cross-entropy, mean over the examples) in W.

    $$ L = \tfrac12\,\lambda_{\max}\bigl(\tfrac1N X^TX\bigr) $$

    The factor 1/2 is the largest norm of $\mathrm{diag}(p) - pp^T$, reached where two classes share all the
    probability; it holds everywhere, for any number of classes, any labels (also smoothed ones), and is reached at
    W = 0 for two classes. If W = W0 + sBA is adapted and nothing else, this is the L of every rule.

    Args:
        features: X, one example a row, shape ``[N, n]``.
        bias: a trainable bias is added to the scores: counts as a feature that is always 1.

    Raises:
        LorateError: X is not a matrix with at least one row, or not finite.

    >>> logistic_smoothness([[2.0, 0.0], [0.0, 1.0]])
    1.0
    """
    return 0.5 * _largest_second_moment(features, bias)


def least_squares_smoothness(features: ArrayLike, *, bias: bool = False) -> float:
    r"""L of $\frac1{2N}\sum_i\|Wx_i - y_i\|^2$ in W, namely $\lambda_{\max}(\tfrac1N X^TX)$.

    ``torch.nn.MSELoss`` averages over the K outputs too and has no 1/2: multiply by 2/K. Arguments and errors as in
    `logistic_smoothness`.

    >>> least_squares_smoothness([[2.0, 0.0], [0.0, 1.0]])
    2.0
    """
    return _largest_second_moment(features, bias)


def _largest_second_moment(features: ArrayLike, bias: bool) -> float:
    """Largest eigenvalue of the mean of x xᵀ, from the smaller of the two Gram matrices."""
    import scipy.linalg  # here, because it takes longer to load than all of lorate

    x = np.asarray(features, dtype=np.float64)
    demand = "features must be a finite matrix [examples, features], but"
    if x.ndim != 2 or x.size == 0:
        raise LorateError(f"{demand} its shape is {x.shape}.")
    if faulty := int(np.sum(~np.isfinite(x))):
        raise LorateError(f"{demand} {faulty} of its {x.size} numbers are NaN or infinite.")
    if bias:
        x = np.hstack([x, np.ones((len(x), 1))])
    gram = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
    last = gram.shape[0] - 1
    largest = scipy.linalg.eigh(gram, eigvals_only=True, subset_by_index=(last, last))[0]
    return float(max(largest, 0.0) / len(x))
