"""Fixed quasi-random points for the expectations of the fixed-point equations."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from lorate_papers.attention.arguments import check_points

Array = NDArray[np.float64]


def sobol(dimension: int, points: int, seed: int) -> Array:
    """Scrambled Sobol points in the open unit cube, shape ``[points, dimension]``.

    Args:
        dimension: number of coordinates.
        points: a power of two, at least 2.
        seed: of the scrambling.

    Raises:
        LorateError: ``points`` is not a power of two.
    """
    check_points(points)
    cube = qmc.Sobol(dimension, scramble=True, seed=seed).random_base2(points.bit_length() - 1)
    tiny = 2.0**-40
    return np.asarray(np.clip(cube, tiny, 1 - tiny))


def normals(cube: Array) -> Array:
    """Standard normal numbers from uniform ones."""
    return np.asarray(ndtri(cube))


def symmetric_gaussian(coordinates: Array) -> Array:
    """Symmetric matrices from independent normals: variance 1 off the diagonal and 2 on it ("GOE").

    Args:
        coordinates: shape ``[points, T (T + 1) / 2]``.

    Returns:
        Matrices, shape ``[points, T, T]``.
    """
    count = coordinates.shape[1]
    tokens = int((math.isqrt(8 * count + 1) - 1) // 2)
    row, column = np.triu_indices(tokens)
    scaled = coordinates * np.where(row == column, math.sqrt(2), 1.0)
    matrix = np.empty((len(coordinates), tokens, tokens))
    matrix[:, row, column] = scaled
    matrix[:, column, row] = scaled
    return matrix
