"""What every benchmark writes: its command, versions, machine and a flat summary."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lorate.runs import write_atomically

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("lorate", "torch", "numpy", "scipy", "transformers", "peft")


def record(name: str, command: str, summary: dict[str, Any], **more: Any) -> Path:
    """Write ``results/NAME.json``, replacing an earlier one, and print the summary."""
    content = {
        "command": command,
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "summary": summary,
        **more,
    }
    RESULTS.mkdir(exist_ok=True)
    write_atomically(RESULTS / f"{name}.json", json.dumps(content, indent=2) + "\n")
    print(json.dumps(summary, indent=2))
    return RESULTS / f"{name}.json"
