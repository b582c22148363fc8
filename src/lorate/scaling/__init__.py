"""The scaling factor of LoRA: the square-root law for ``lora_alpha``, and what of the weights' change is linear."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lorate.scaling.law import lora_alpha
from lorate.scaling.peft_config import lora_config

if TYPE_CHECKING:
    from lorate.scaling.drift import SignalDrift, signal_and_drift
    from lorate.scaling.spread import effective_rank

__all__ = ["SignalDrift", "effective_rank", "lora_alpha", "lora_config", "signal_and_drift"]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is used: ``lorate train --help`` does not."""
    if name not in ("SignalDrift", "effective_rank", "signal_and_drift"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"lorate.scaling.{'spread' if name == 'effective_rank' else 'drift'}"), name)
