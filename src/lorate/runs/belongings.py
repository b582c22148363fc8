"""Which files of a run directory lorate wrote: those that ``--force`` may delete."""

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

from lorate.errors import LorateError

HALF_A_FILE = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
"""What `lorate.runs.atomic.replacing` calls a file until it is whole."""

_OF_A_MONITOR = {".lock", "run.json", "metrics.jsonl", "layers.jsonl", "setting.json", "report.html"}
_OF_A_RUN = {*_OF_A_MONITOR, "config.yaml", "eval.jsonl", "before.json", "samples.json", "README.md"}
_OF_AN_ADAPTER = (
    *("adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer*.json", "tokenizer.model"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "spiece.model", "*.bpe.model", "*.spm"),
    *("chat_template.jinja", "additional_chat_templates/*.jinja", "*processor_config.json", "tekken.json"),
)
_OF_A_CHECKPOINT = (
    *_OF_AN_ADAPTER,
    *("manifest.json", "trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"),
    *("rng_state*.pth", ".manifest.json.*.tmp"),
)
_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "adapter": _OF_AN_ADAPTER,
    ".adapter.new": _OF_AN_ADAPTER,
    "best": tuple(f"{place}/{name}" for place in ("step-[0-9]*", ".new") for name in (*_OF_AN_ADAPTER, "losses.json")),
    **dict.fromkeys(("initial", "untrained"), _OF_AN_ADAPTER),
    # README.md is TRL's; runs/ is where transformers lets TensorBoard write
    "checkpoints": (*(f"checkpoint-[0-9]*/{name}" for name in _OF_A_CHECKPOINT), "README.md", "runs/*/events.out.*"),
}


def strangers(run: Path, info: Mapping[str, Any]) -> list[str]:
    """Names of the files in a run directory that lorate did not write.

    A link counts by its own name, and what it leads to is not looked at.

    Args:
        run: the directory.
        info: its ``run.json``. One without options was written by `lorate.Monitor`, which writes fewer files: a
            ``README.md`` beside them is the user's.
    """
    trained = "config" in info
    own = _OF_A_RUN if trained else _OF_A_MONITOR
    found = []
    for entry in sorted(run.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            known = _FOLDERS.get(entry.name, ()) if trained else ()
            files = [path.relative_to(entry).as_posix() for path in _files(entry)]
            found += [f"{entry.name}/{name}" for name in files if not any(_matches(name, kind) for kind in known)]
            if not files and entry.name not in _FOLDERS:
                found.append(f"{entry.name}/")
        elif not (entry.name in own or HALF_A_FILE.fullmatch(entry.name) or (trained and entry.name in _FOLDERS)):
            found.append(entry.name)
    return found


def closed_folder(folder: Path) -> Path | None:
    """The first of a folder and the folders below it whose files this user may not list, add or delete."""
    if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY:
        return None  # a disk that is read-only is said where it is written to
    rights, effective = os.R_OK | os.W_OK | os.X_OK, os.access in os.supports_effective_ids
    below = (Path(place, name) for place, names, _ in os.walk(folder) for name in names)
    own = (place for place in chain([folder], below) if not place.is_symlink())
    # another process may delete it meanwhile
    return next((one for one in own if not os.access(one, rights, effective_ids=effective) and one.exists()), None)


def delete_checkpoint(folder: Path, listed: Collection[str]) -> None:
    """Delete a checkpoint but for files of somebody else, and the folder itself if there are none.

    Args:
        folder: the checkpoint.
        listed: names of the files that its manifest lists.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    own = [name for name in files if name in listed or any(_matches(name, kind) for kind in _OF_A_CHECKPOINT)]
    if len(own) == len(files):
        shutil.rmtree(folder)
    for name in own if len(own) < len(files) else ():
        files[name].unlink()


def carry_over(old: Path, fresh: Path) -> None:
    """Move what lies in a folder and is not in the one that takes its place: somebody put it there.

    Raises:
        LorateError: a folder with files has the name of a file that was written.
    """
    names = [path.relative_to(old) for path in _files(old)] if old.is_dir() else []
    for name in names:  # all of them before one is moved
        taken = next((fresh / part for part in name.parents if (fresh / part).is_file()), None)
        if taken is not None:
            raise LorateError(f"{old / name} lies where the file {taken.name} belongs; move it away.")
    for name in names:
        if not (fresh / name).exists():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (old / name).rename(fresh / name)


def _matches(name: str, pattern: str) -> bool:
    """As `fnmatchcase`, but no star goes beyond a slash."""
    words, kinds = name.split("/"), pattern.split("/")
    return len(words) == len(kinds) and all(map(fnmatchcase, words, kinds))


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:  # another process deletes the run
        return
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        else:
            yield entry
