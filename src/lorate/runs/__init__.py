"""The run directory: what a training run leaves behind."""

from lorate.runs.atomic import write_atomically
from lorate.runs.directory import RunDirectory, RunFile

__all__ = ["RunDirectory", "RunFile", "write_atomically"]
