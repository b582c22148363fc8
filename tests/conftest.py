"""What every test starts from: no network, a fixed seed, and the fixtures of `tiny_models` and `browser_window`."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported

import pytest
import torch

pytest_plugins = ["tiny_models", "browser_window"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A report tells which fault its test injected, from other processes too."""
    for item in items:
        if (mark := item.get_closest_marker("fault")) is not None:
            item.user_properties.append(("fault", mark.args[0]))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
