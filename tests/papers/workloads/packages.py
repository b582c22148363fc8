"""Data packages that a test may do without."""

import importlib.util

import pytest


def needs(module: str, install: str) -> None:
    """Skip the test where a data package is missing; it is not imported."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(install)
