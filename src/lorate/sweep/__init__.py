"""Sweeps: many independent runs in several processes, each kept as it finishes, so that a sweep can be resumed."""

from lorate.sweep.backends import Backend, Run, execute
from lorate.sweep.divergence import Divergence
from lorate.sweep.folder import Progress, SweepFolder, run_missing

PACKAGES = ("torch", "numpy", "scipy", "joblib", "matplotlib", "transformers", "peft")
"""Whose versions a sweep notes."""

__all__ = ["PACKAGES", "Backend", "Divergence", "Progress", "Run", "SweepFolder", "execute", "run_missing"]
