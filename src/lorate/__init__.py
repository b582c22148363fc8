"""LoRA fine-tuning with step sizes from theory: optimizers, a monitor, a report.

>>> import lorate
>>> lorate.make_rule("normalized").formula
'η = a / ‖∇J‖^½'
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


_PLACES = {
    "adapters": ("LoraPair", "find_pairs"),
    "errors": ("LorateError", "MissingExtraError"),
    "measurement": ("Measurement",),
    "monitor": ("Alarm", "Monitor"),
    "optim": ("LoraOptimizer", "Step", "create_optimizer"),
    "rules": ("RULES", "Line", "Rule", "StepSizes", "make_rule"),
    "scaling": ("lora_alpha",),
}


def __getattr__(name: str) -> Any:
    """Names and modules are imported when they are used, so that the command line answers before torch is loaded."""
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(f"lorate.{module}"), name)
    try:
        return importlib.import_module(f"lorate.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"lorate.{name}":
            raise
        raise AttributeError(f"module 'lorate' has no attribute {name!r}") from None


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
