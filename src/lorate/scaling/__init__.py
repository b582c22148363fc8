"""The scaling factor of LoRA: the square-root law for ``lora_alpha``, and what of the weights' change is linear."""

from lorate.scaling.drift import SignalDrift, signal_and_drift
from lorate.scaling.law import lora_alpha
from lorate.scaling.peft_config import lora_config

__all__ = ["SignalDrift", "lora_alpha", "lora_config", "signal_and_drift"]
