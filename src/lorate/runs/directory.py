"""A run directory: create it without overwriting anything, open it, read and write its files."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.extras import require
from lorate.runs.atomic import write_atomically
from lorate.runs.belongings import HALF_A_FILE, closed_folder, strangers
from lorate.runs.description import check_format, sound_entries
from lorate.runs.reading import check_regular, read_json, read_text, real
from lorate.runs.safe_yaml import parse_yaml
from lorate.runs.strict_json import encode


class RunFile:
    """An attribute that is the path of a file of the run; of the class, its path relative to any run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "RunDirectory | None", owner: type) -> Path:
        return Path(self.name) if run is None else run.inside(self.name)


class RunDirectory:
    """The files of one training run, by name.

    ``RunDirectory(path)`` only names the place; `create` makes a new run, `open` opens one that is
    there. Every path handed out lies inside the directory, symbolic links resolved.

    Args:
        path: the directory.
    """

    run = RunFile("run.json")
    """What was run, its status and its result."""
    config = RunFile("config.yaml")
    """The resolved options, valid input for ``lorate train --config``."""
    metrics = RunFile("metrics.jsonl")
    """One record a step."""
    layers = RunFile("layers.jsonl")
    """Norms of each layer, every few steps."""
    evaluations = RunFile("eval.jsonl")
    """Held-out losses."""
    samples = RunFile("samples.json")
    """Generations before and after."""
    adapter = RunFile("adapter")
    """The PEFT adapter."""
    checkpoints = RunFile("checkpoints")
    """What ``--resume`` continues from."""
    readme = RunFile("README.md")
    """How to load, merge and generate."""
    report = RunFile("report.html")
    """The HTML report."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, force: bool = False) -> "RunDirectory":
        """Make an empty run directory.

        Args:
            path: where; parents are made as needed. An empty directory may be there already.
            force: delete the run that is there: the files that lorate wrote. Where others lie beside them
                nothing is deleted. Links are removed, what they point to stays.

        Raises:
            LorateError: the place is taken, or ``force`` would delete something that lorate did not write.
        """
        run = cls(path)
        cls.check_free(path, force=force)
        run.path.mkdir(parents=True, exist_ok=True)
        if force:
            with run.in_use():
                if not run._is_empty():  # looked at again: another process may have come first
                    run._check_is_own()
                    run._delete_content()
        return run

    @classmethod
    def check_free(cls, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Say now what `create` would refuse later, and change nothing.

        Raises:
            LorateError: as for `create`.
        """
        run = cls(path)
        if run.path.is_symlink() or (run.path.exists() and not run.path.is_dir()):
            raise LorateError(f"{run.path} is not a directory; choose another name for the run.")
        if not run.path.is_dir() or run._is_empty():
            return
        if not force:
            raise LorateError(
                f"{run.path} is not empty, and runs are never overwritten; continue the run with --resume, "
                "choose another name with --output, or replace it with --force."
            )
        run._check_is_own()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """Open an existing run.

        Raises:
            LorateError: there is no such directory, or it holds no ``run.json`` written by lorate.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise LorateError(f"There is no run directory {run.path}; give the --output of an earlier lorate train.")
        run.read_run()
        return run

    def inside(self, name: str) -> Path:
        """The path of a file of this run.

        Raises:
            LorateError: the name leads out of the run directory (``..``, an absolute path, a link).
        """
        path = self.path / name
        if not real(path).is_relative_to(real(self.path)):
            raise LorateError(f"{name} leads out of the run directory {self.path}; use a name inside it.")
        return path

    def write_run(self, info: Mapping[str, Any]) -> None:
        """Write ``run.json``, replacing it in one step; non-finite numbers become null."""
        write_atomically(self.run, encode(info, indent=2) + "\n")

    def read_run(self, problems: list[str] | None = None) -> dict[str, Any]:
        """Read ``run.json``.

        Args:
            problems: gets a sentence about entries of another type than lorate writes, which are left out.

        Raises:
            LorateError: the file is missing, cannot be read, was not written by lorate, or by a later version.
        """
        try:
            info = read_json(self.run)
        except FileNotFoundError:
            raise LorateError(f"{self.path} is not a run of lorate: it holds no run.json.") from None
        except OSError as error:
            raise LorateError(f"{self.run} cannot be read: {error.strerror or error}.") from None
        if not isinstance(info, dict) or "lorate" not in info:
            raise LorateError(f"{self.run} was not written by lorate: the entry 'lorate' is missing.")
        check_format(info, self.run)
        return sound_entries(info, [] if problems is None else problems)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.yaml``; only plain values (numbers, text, lists, maps) are allowed.

        Raises:
            LorateError: a value has a type that YAML does not know.
        """
        yaml = require("yaml", extra="cli")
        try:
            text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        except yaml.YAMLError as error:
            raise LorateError(f"The options cannot be written as YAML: {error}.") from None
        write_atomically(self.config, text)

    def read_config(self) -> dict[str, Any]:
        """Read ``config.yaml``.

        Raises:
            LorateError: the file is missing or is not a map of options.
        """
        try:
            config = parse_yaml(read_text(self.config))
        except FileNotFoundError:
            raise LorateError(f"{self.path} holds no config.yaml.") from None
        except (OSError, ValueError) as error:
            raise LorateError(f"{self.config} cannot be read as YAML: {str(error).rstrip('.')}.") from None
        if not isinstance(config, dict):
            raise LorateError(f"{self.config} should hold one option per line, name: value.")
        return config

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the run for this process, so that no other one writes to it or deletes it.

        The hold ends with the block, or with the process however it ends. On systems without ``fcntl``
        (Windows) nothing is held.

        Raises:
            LorateError: another process holds the run.
        """
        try:
            import fcntl
        except ImportError:
            yield
            return
        file = self.inside(".lock")
        if os.path.lexists(file):
            try:
                check_regular(file)
            except OSError as error:
                raise LorateError(f"{file} cannot be opened: {error.strerror}.") from None
        with file.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LorateError(
                    f"{self.path} is in use by another process; wait for it, or choose another name with --output."
                ) from None
            for half in self.path.glob(".*.tmp"):  # left by a process that was killed while it wrote a file
                if HALF_A_FILE.fullmatch(half.name):
                    half.unlink()
            yield

    def _is_empty(self) -> bool:
        """Whether there is nothing to lose: a process that was killed at once leaves its lock, or half a file."""
        return all(entry.name == ".lock" or HALF_A_FILE.fullmatch(entry.name) for entry in self.path.iterdir())

    def _check_is_own(self) -> None:
        try:
            info = self.read_run()
        except LorateError as error:
            raise LorateError(
                f"{self.path} is not deleted, because --force replaces only runs of lorate ({str(error).rstrip('.')}); "
                "choose another name with --output."
            ) from None
        if (closed := closed_folder(self.path)) is not None:
            raise LorateError(
                f"{self.path} is not deleted, because this user may not change {closed}; give yourself permission, "
                "or choose another name with --output."
            )
        if others := strangers(self.path, info):
            names = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
            raise LorateError(
                f"{self.path} is not deleted, because it holds files that lorate did not write: {names}; move them "
                "away, or choose another name with --output."
            )

    def _delete_content(self) -> None:
        # run.json goes last: after an interruption --force still knows the directory as a run. The lock stays: it is
        # held, and another process would hold a new one of that name as well.
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry.name == "run.json"):
            if entry.name == ".lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
