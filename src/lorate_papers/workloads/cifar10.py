"""CIFAR-10, from its binary version on disk or from the hub; its pickled version is never opened."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.tasks.hub import fetch_hub
from lorate_papers.workloads.images import pixels_of

CIFAR10 = "cifar10"
ON_HUB = "uoft-cs/cifar10"
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
ENTRY = 1 + 3 * SIDE * SIDE
"""Bytes of an image: its label, then the red, green and blue plane."""


class Images(NamedTuple):
    """Images in two parts: ``pixels`` ``[N, channels, height, width]``, uint8, and ``labels`` ``[N]``."""

    train: dict[str, Tensor]
    held_out: dict[str, Tensor]
    labels: tuple[str, ...]


def cifar10_from_folder(folder: Path) -> Images:
    """Read ``data_batch_1.bin`` and so on, as many as there are, and ``test_batch.bin``.

    Raises:
        LorateError: no training file, or a file that is not in this format.
    """
    files = sorted(folder.glob("data_batch_*.bin"))
    if not files:
        raise LorateError(f"{folder} holds no data_batch_1.bin: unpack the binary version of CIFAR-10 there.")
    parts = [_binary(file) for file in files]
    train = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Images(train, _binary(folder / "test_batch.bin"), LABELS)


def _binary(file: Path) -> dict[str, Tensor]:
    content = np.fromfile(file, dtype=np.uint8)
    if not len(content) or len(content) % ENTRY:
        raise LorateError(f"{file}: {len(content)} bytes are not a whole number of CIFAR-10 images of {ENTRY} bytes.")
    entries = torch.from_numpy(content.reshape(-1, ENTRY))
    labels = entries[:, 0].long()
    if int(labels.max()) >= len(LABELS):
        raise LorateError(f"{file}: a label is {int(labels.max())}, but CIFAR-10 has the labels 0 to 9.")
    return {"pixels": entries[:, 1:].reshape(-1, 3, SIDE, SIDE).contiguous(), "labels": labels}


def cifar10_from_hub() -> Images:
    """Fetch the data set of the Hugging Face hub, which is stored as Parquet.

    Raises:
        LorateError: no connection.
    """
    splits = fetch_hub(ON_HUB)
    return Images(_rows(splits["train"]), _rows(splits["test"]), tuple(splits["train"].features["label"].names))


def _rows(split: Any) -> dict[str, Tensor]:
    return {"pixels": pixels_of((row["img"] for row in split), SIDE, 3), "labels": torch.tensor(split["label"])}
