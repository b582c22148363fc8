"""A pickle that does something when it is opened, as somebody who wants to run code on a machine would write it."""

import os
from pathlib import Path
from typing import Any


class Payload:
    """Makes a directory when it is unpickled; what a real one does would not be so harmless."""

    def __init__(self, proof: Path) -> None:
        self._proof = str(proof)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._proof,)
