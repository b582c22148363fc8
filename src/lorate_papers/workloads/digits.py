"""The handwritten digits of scikit-learn as numbers."""

import torch
from torch import Tensor

from lorate.errors import LorateError


def digits() -> tuple[Tensor, Tensor]:
    """All 1,797 digits, in the order of the package.

    Returns:
        Pixels from 0 to 1, shape ``[1797, 64]``, float32 (rows of an 8 x 8 image), and labels ``[1797]``.

    Raises:
        LorateError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise LorateError("scikit-learn is not installed; type: pip install scikit-learn") from error
    found = load_digits()
    return torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target, dtype=torch.long)
