"""An adapter that is there, by its files alone: neither torch nor PEFT is loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.runs.reading import read_json
from lorate.training.config import TrainConfig


def adapter_folder(spec: str) -> Path:
    """The directory of an adapter; that of a run holds one.

    Raises:
        LorateError: there is none.
    """
    for folder in (Path(spec) / "adapter", Path(spec)):
        if (folder / "adapter_config.json").is_file():
            return folder
    raise LorateError(f"{spec} holds no adapter: expected a run of lorate, or a directory with adapter_config.json.")


def adapter_options(folder: Path) -> dict[str, Any]:
    """What an adapter's file says of its base and its shape, as options of `TrainConfig`.

    Raises:
        LorateError: the file is damaged, or it is not a LoRA adapter.
    """
    try:
        saved = read_json(folder / "adapter_config.json")
        if saved["peft_type"] != "LORA":
            raise LorateError(f"{folder} holds an adapter of type {saved['peft_type']}, not LoRA.")
        targets = saved["target_modules"]
        return {
            "model": saved["base_model_name_or_path"],
            "rank": saved["r"],
            "alpha": float(saved["lora_alpha"]),
            "targets": [targets] if isinstance(targets, str) else sorted(targets),
            "dropout": float(saved["lora_dropout"]),
            "rslora": saved.get("use_rslora", False),
            "dora": saved.get("use_dora", False),
        }
    except LorateError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise LorateError(f"{folder / 'adapter_config.json'} is damaged: {error}.") from error


def as_the_adapter(config: TrainConfig, folder: Path) -> TrainConfig:
    """The options with the shape of an adapter that is there.

    Raises:
        LorateError: another shape was asked for, or the adapter is damaged.
    """
    own = adapter_options(folder)
    for name, value in own.items():
        wanted = getattr(config, name)
        if name != "model" and wanted not in (getattr(TrainConfig, name), value):
            raise LorateError(f"{config.adapter} has {name} {value!r}, not {wanted!r}; leave {name} out.")
    return replace(config, **own | {"model": config.model or own["model"]})
