"""The smoothness constant L of a loss in its weights: in closed form, measured at a point, or from trial steps."""

from lorate.smoothness.closed_form import least_squares_smoothness, logistic_smoothness
from lorate.smoothness.online import TrialSmoothness
from lorate.smoothness.power_iteration import HessianNorm, hessian_norm

__all__ = ["HessianNorm", "TrialSmoothness", "hessian_norm", "least_squares_smoothness", "logistic_smoothness"]
