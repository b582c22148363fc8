"""LoRA fine-tuning with step sizes from theory: optimizers, a monitor, a report.

>>> make_rule("normalized").formula
'η = a / ‖∇J‖^½'
"""

from typing import Any

from lorate.adapters import LoraPair, find_pairs
from lorate.errors import LorateError, MissingExtraError
from lorate.measurement import Measurement
from lorate.monitor import Alarm, Monitor
from lorate.optim import LoraOptimizer, Step, create_optimizer
from lorate.rules import RULES, Line, Rule, StepSizes, make_rule
from lorate.scaling import lora_alpha

__version__ = "0.1.0"


def attach(trainer: Any, *args: Any, **options: Any) -> Any:
    """Let a Trainer of transformers or TRL train with a rule of lorate; see `lorate.integrations.attach.attach`.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    from lorate.integrations.attach import attach as give

    return give(trainer, *args, **options)


__all__ = [
    "RULES",
    "Alarm",
    "Line",
    "LoraOptimizer",
    "LoraPair",
    "LorateError",
    "Measurement",
    "MissingExtraError",
    "Monitor",
    "Rule",
    "Step",
    "StepSizes",
    "__version__",
    "attach",
    "create_optimizer",
    "find_pairs",
    "lora_alpha",
    "make_rule",
]
