"""Electroluminescence images of solar cells, from the ``elpv-dataset`` wheel, which is not imported."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.tasks.embedded import package_file
from lorate_papers.workloads.images import pixels_of

INSTALL = "pip install --no-deps elpv-dataset"
CLASSES = 4
"""How sure the annotators were of a defect: not at all, a third, two thirds, wholly."""


class Cell(NamedTuple):
    """One entry of the list: file, class from 0 to 3, and whether the cell is one crystal."""

    file: Path
    label: int
    mono: bool


def cells() -> list[Cell]:
    """The 2,624 cells in the order of the list.

    Raises:
        LorateError: the package is not installed, or its list has another form.
    """
    path = package_file("elpv_dataset", "data/labels.csv", INSTALL)
    found = []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        try:
            file, probability, kind = line.split()
            found.append(Cell(path.parent / file, round((CLASSES - 1) * float(probability)), kind == "mono"))
        except ValueError as error:
            raise LorateError(f"{path}, line {number}: expected file, probability and kind of a cell.") from error
    return found


def solar_cells(size: int) -> dict[str, Tensor]:
    """All images with their labels.

    Args:
        size: height and width that the 300 x 300 images are reduced to.

    Returns:
        ``pixels`` ``[2624, 1, size, size]``, uint8; ``labels`` and ``mono`` ``[2624]``.
    """
    from PIL import Image

    listed = cells()
    return {
        "pixels": pixels_of((Image.open(cell.file) for cell in listed), size, 1),
        "labels": torch.tensor([cell.label for cell in listed]),
        "mono": torch.tensor([cell.mono for cell in listed]),
    }
