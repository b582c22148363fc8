"""What every test starts from: no network, a fixed seed, and the fixtures of `tiny_models` and `browser_window`."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported

import pytest
import torch

pytest_plugins = ["tiny_models", "browser_window"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
