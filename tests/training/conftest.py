"""Data and options of the tiny runs."""

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    words = ["good", "bad", "film", "book", "a", "b", "c", "d", "e"]
    file = tmp_path / "data.jsonl"
    rows = [{"prompt": f"{x} {y} :", "completion": f" {y} {x} one"} for x in words for y in words if x != y]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


@pytest.fixture
def options(llama_dir: Path, chats: Path) -> dict[str, Any]:
    return {
        "model": str(llama_dir), "data": str(chats), "rank": 2, "alpha": 4.0, "steps": 8, "lr": 20.0, "max_length": 16,
        "device": "cpu", "samples": 1, "dropout": 0.1,
    }  # fmt: skip
