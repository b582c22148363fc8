"""Warnings of torch that the models here provoke on purpose."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "conv2d-same" in item.name:
            item.add_marker(pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"))
