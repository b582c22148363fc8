"""Sweeps: many independent runs in several processes, each kept as it finishes, so that a sweep can be resumed."""

from lorate.sweep.divergence import Divergence
from lorate.sweep.folder import SweepFolder
from lorate.sweep.missing import Progress, run_missing
from lorate.sweep.run import Run

PACKAGES = ("torch", "numpy", "scipy", "joblib", "matplotlib", "transformers", "peft")
"""Whose versions a sweep notes."""

__all__ = ["PACKAGES", "Divergence", "Progress", "Run", "SweepFolder", "run_missing"]
