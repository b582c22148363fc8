"""What options, and the files that they name, refuse in no time: before torch and transformers are loaded."""

import importlib.util
import shlex
import shutil
from pathlib import Path

from lorate.errors import LorateError, MissingExtraError
from lorate.tasks.data import check_places
from lorate.tasks.model_source import find_model
from lorate.training.adapter_files import adapter_folder, as_the_adapter
from lorate.training.config import TrainConfig


def check_early(config: TrainConfig) -> None:
    """Refuse what would be refused later in any case, after seconds or minutes.

    Raises:
        LorateError: a file, a command or a model is not there, or an adapter has another shape.
        MissingExtraError: bitsandbytes is not installed, and the base is to be quantised.
    """
    if config.adapter is not None:
        config = as_the_adapter(config, adapter_folder(config.adapter))
    check_places(config.data, config.task)
    if config.eval_data is not None:
        check_places(config.eval_data, config.task)
    find_model(config.model, config.task)
    if config.chat_template is not None:
        read_template(config.chat_template)
    if config.quantize and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes is not installed; type: pip install 'lorate[quantize]'")
    for option in ("metric_command", "on_alarm_run"):
        if (command := getattr(config, option)) is not None:
            check_command(option, command)


def read_template(file: str) -> str:
    """A chat template.

    Raises:
        LorateError: it cannot be read.
    """
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LorateError(f"chat_template {file} cannot be read: {error}.") from None


def check_command(option: str, command: str) -> None:
    """See that there is such a program, before hours of work that end with it.

    Raises:
        LorateError: there is none, or the quotes do not close.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise LorateError(f"{option} {command!r} cannot be split into words: {error}.") from None
    if not words or shutil.which(words[0]) is None:
        raise LorateError(
            f"{option} should begin with a program that can be run, got {command!r}; for a shell command line write "
            'sh -c "...".'
        )
