"""The smoothness constant L of a loss in its weights: in closed form, measured at a point, or from trial steps."""

from typing import TYPE_CHECKING, Any

from lorate.smoothness.closed_form import least_squares_smoothness, logistic_smoothness
from lorate.smoothness.online import TrialSmoothness

if TYPE_CHECKING:
    from lorate.smoothness.power_iteration import HessianNorm, hessian_norm

__all__ = ["HessianNorm", "TrialSmoothness", "hessian_norm", "least_squares_smoothness", "logistic_smoothness"]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is used: ``lorate train --help`` does not."""
    if name not in ("HessianNorm", "hessian_norm"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from lorate.smoothness import power_iteration

    return getattr(power_iteration, name)
