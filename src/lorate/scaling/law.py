"""The square-root law of ``lora_alpha``."""

import math
import sys

from lorate.errors import LorateError


def lora_alpha(r: int, c: float = 256.0, use_rslora: bool = False) -> float:
    r"""The ``lora_alpha`` whose effective scale is $s = c/\sqrt r$.

    $$ \alpha = c\sqrt r \quad\text{(PEFT's } s = \alpha/r\text{)}, \qquad
       \alpha = c \quad\text{(rsLoRA's } s = \alpha/\sqrt r\text{)} $$

    Args:
        r: rank of the adapters.
        c: the coefficient. 256 is the source's fit for AdamW on 1B and 8B Llama models at an ordinary small learning
            rate (about 2e-5); it belongs to a model and a learning rate. ``lorate alpha
            calibrate`` fits it on a model and data of your own.
        use_rslora: the value for a configuration with ``use_rslora=True``.

    Returns:
        A number for ``peft.LoraConfig(lora_alpha=...)``, which takes a float.

    Raises:
        LorateError: r is not a whole number of at least 1, or c is not a finite number above 0.

    Source: arXiv 2606.12883; when it does not apply: docs/alpha.md.

    >>> lora_alpha(16), lora_alpha(16, use_rslora=True), lora_alpha(4, c=32)
    (1024.0, 256.0, 64.0)
    """
    if not isinstance(r, int) or isinstance(r, bool) or not 1 <= r < 2**63:
        raise LorateError(f"the rank r must be a whole number of at least 1, got {r!r}.")
    if not isinstance(c, (int, float)) or isinstance(c, bool) or not 0 < c <= sys.float_info.max:
        raise LorateError(f"the coefficient c must be a finite number above 0, got {c!r}.")
    return float(c) if use_rslora else float(c * math.sqrt(r))
