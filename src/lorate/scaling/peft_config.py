"""A PEFT configuration whose scale follows the square-root law."""

from typing import Any

from lorate.errors import LorateError
from lorate.extras import require
from lorate.scaling.law import lora_alpha


def lora_config(r: int, *, c: float = 256.0, use_rslora: bool = False, **options: Any) -> Any:
    r"""A ``peft.LoraConfig`` with the effective scale $s = c/\sqrt r$ in every layer.

    The plain and the rsLoRA form train alike; they differ in the number in ``adapter_config.json``. Ranks
    of single layers (``rank_pattern``) get their own alpha by the same law.

    Args:
        r: rank of the adapters.
        c: the coefficient of the law, see `lorate.lora_alpha`.
        use_rslora: the form with $s = \alpha/\sqrt r$.
        options: further arguments of ``peft.LoraConfig``, such as ``target_modules``.

    Raises:
        LorateError: r or c is out of range, or an option sets the scale in another way (``lora_alpha``,
            ``alpha_pattern``) or takes it away (``use_dora`` divides the adapted weight by its norm).
        MissingExtraError: PEFT is not installed.

    >>> lora_config(4, target_modules=["q_proj"]).lora_alpha
    512.0
    """
    taken = [name for name in ("lora_alpha", "alpha_pattern") if name in options]
    if taken:
        raise LorateError(f"lora_config sets {taken[0]} by the law; leave it out, or build peft.LoraConfig yourself.")
    if options.get("use_dora"):
        raise LorateError("the law is for W = W0 + s B A, which DoRA rescales; build peft.LoraConfig yourself.")
    alpha = lora_alpha(r, c, use_rslora)
    if not use_rslora:  # rsLoRA divides by each layer's own root
        ranks = options.get("rank_pattern") or {}
        options["alpha_pattern"] = {layer: lora_alpha(rank, c) for layer, rank in ranks.items()}
    return require("peft", extra="hf").LoraConfig(r=r, lora_alpha=alpha, use_rslora=use_rslora, **options)
