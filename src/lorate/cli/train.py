"""``lorate train``: fine-tune with LoRA."""

import logging
import os
import shlex
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lorate.cli.console import stderr, stdout
from lorate.cli.launch import is_first, is_launched, launch
from lorate.cli.options import typed, with_options
from lorate.errors import LorateError
from lorate.runs import RunDirectory
from lorate.runs.reading import read_text
from lorate.runs.safe_yaml import parse_yaml
from lorate.training.config import DEFAULT_EPOCHS, FEWEST_STEPS, MOST_STEPS, TrainConfig
from lorate.training.early import check_early

CODES = {"finished": 0, "stopped": 1, "interrupted": 130}


def _train(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run directory to create. Default: the next of runs/001, ..."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with options; the command line wins.")] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Number of processes that train together, each with a GPU and --batch-size samples."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in --output.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --output.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
) -> int:
    """Fine-tune a language model, or a text or image classifier, with LoRA.

    Writes a run directory: the adapter (PEFT's format), records, a report, and how to use them.
    Ctrl-C saves a checkpoint first; --resume continues to the same numbers.

    Examples:
    `lorate train --data chats.jsonl --steps 200 --output runs/chats`

    `lorate train --model meta-llama/Llama-3.2-1B --data my.jsonl --rule normalized --lr 0.05`

    `lorate train --task image-classification --model microsoft/resnet-18 --data photos/`

    `lorate train --data chats.jsonl --processes 4`

    `lorate train --output runs/chats --resume`
    """
    silence_libraries()
    check_processes(processes)
    given = typed(TrainConfig, context)
    settings, place = _checked(given, output, config, resume, force, dry_run)
    count = int(os.environ.get("WORLD_SIZE", "1")) if is_launched() else processes or 1
    if count > 1 and not is_launched() and not dry_run:
        return launch(count, context.obj)
    if is_first():
        stderr.print("[dim]Loading libraries ...[/]")
    from lorate.cli.progress import TerminalListener
    from lorate.freed_memory import keep_freed_memory
    from lorate.training import dry_run as plan_only
    from lorate.training import resume as go_on
    from lorate.training import train as start

    keep_freed_memory()
    if settings is None:
        with TerminalListener() as listener:
            return _finish(go_on(place, steps=given.get("steps"), listener=listener))
    if dry_run:
        if not is_first():
            return 0
        with TerminalListener() as listener:
            plan = plan_only(settings, listener, processes=count)
        _print_plan(settings, plan)
        return 0
    command = "lorate " + shlex.join(context.obj)
    with TerminalListener() as listener:
        outcome = start(settings, place, force=force, command=command, listener=listener)
    return _finish(outcome)


train = with_options(TrainConfig, _train)
train.__name__ = "train"


def check_processes(wanted: int | None) -> None:
    """A launcher's number of processes goes before ``--processes``: they must be the same.

    Raises:
        LorateError: they differ.
    """
    there = int(os.environ.get("WORLD_SIZE", "1"))
    if is_launched() and wanted not in (None, there):
        raise LorateError(f"--processes {wanted}, but a launcher started {there}; leave --processes out.")


def options_from_file(path: Path | None) -> dict[str, Any]:
    """What a YAML file for ``--config`` says; nothing without one.

    Raises:
        LorateError: the file cannot be read, or is not a map of options.
    """
    if path is None:
        return {}
    try:
        options = parse_yaml(read_text(path))
    except LorateError:
        raise
    except OSError as error:
        raise LorateError(f"--config {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise LorateError(f"--config {path} is not YAML: {error}.") from None
    if not isinstance(options, dict):
        raise LorateError(f"--config {path} should hold one option per line, name: value.")
    return options


def _checked(
    given: dict[str, Any], output: Path | None, config: Path | None, resume: bool, force: bool, dry_run: bool
) -> tuple[TrainConfig | None, Path]:
    """Options and run directory, refused in no time if they do not do; None for the options of a run to go on with."""
    if resume:
        if output is None:
            raise LorateError("--resume needs --output: the directory of the run to continue.")
        other = [name for name in given if name != "steps"]
        if other or config or force or dry_run:
            what = ", ".join(f"--{name.replace('_', '-')}" for name in other) or "--config, --force and --dry-run"
            raise LorateError(f"--resume uses the run's own options; leave out {what} (only --steps may change).")
        RunDirectory.open(output)
        return None, output
    settings = TrainConfig.from_mapping(options_from_file(config) | given, source=str(config or "the command line"))
    place = output or _next_run(Path("runs"))
    if not dry_run:
        RunDirectory.check_free(place, force=force)
    check_early(settings)
    return settings, place


def _next_run(folder: Path) -> Path:
    number = 1
    while (folder / f"{number:03}").exists():
        number += 1
    return folder / f"{number:03}"


def silence_libraries() -> None:
    """Keep the libraries' own notices out of the run's display; errors still come through."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore")
    for name in ("transformers", "datasets", "accelerate", "trl", "peft", "huggingface_hub", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _print_plan(settings: Any, plan: Any) -> None:
    table = Table(title="Plan (nothing was written)", show_header=False)
    rows = {
        "trainable parameters": f"{plan.trainable:,} of {plan.parameters:,} ({plan.trainable / plan.parameters:.2%})",
        "adapted layers": f"{plan.adapted_layers}, rank {settings.rank}, scaling {settings.scaling:g}",
        "records": f"{plan.train_examples} to train on, {plan.eval_examples} held out",
        "columns": escape(plan.format or "images in folders"),
        "learned": f"{plan.learned_tokens:,} of {plan.train_tokens:,} tokens ({plan.learned})"
        if plan.train_tokens
        else "the labels",
        "step": f"{plan.samples_per_step} samples"
        + (f", at most {plan.tokens_per_step:,} tokens" if plan.tokens_per_step else ""),
        "run": f"{plan.steps} steps, {plan.epochs:.1f} epochs{_default_length(settings)}",
        "step size": f"{settings.rule}, a = {settings.resolved_lr:g}",
        "memory, roughly": f"{plan.memory_bytes / 2**30:.1f} GiB",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    stdout.print(table)


def _default_length(settings: TrainConfig) -> str:
    if settings.steps is not None or settings.epochs is not None:
        return ""
    return f" (by default {DEFAULT_EPOCHS}, but from {FEWEST_STEPS} to {MOST_STEPS:,} steps; say --epochs or --steps)"


def _finish(outcome: Any) -> int:
    from lorate import ranks

    run = outcome.run
    if not ranks.is_main():
        return 0  # by any other code a launcher would end the main process, which still writes adapter and report
    if outcome.status == "interrupted":
        count = ranks.world_size()
        together = f" --processes {count}" if count > 1 else ""
        place = escape(shlex.quote(str(run.path)))
        stderr.print(
            f"Interrupted after {outcome.steps} steps; continue with: lorate train --output {place} --resume{together}",
            soft_wrap=True,
        )
        return CODES["interrupted"]
    change = outcome.change
    for sample in outcome.samples[:1]:
        for title, text in (("Prompt", "prompt"), ("Before", "before"), ("After", "after")):
            stdout.print(f"[bold]{title}:[/]\n{escape(sample[text].strip())}\n", soft_wrap=True)
    rule = run.read_run()["rule"]
    stdout.print(
        f"Held-out loss {change.before:.4f} -> {change.after:.4f} ({change.relative:+.1%}; difference "
        f"{change.after - change.before:+.4f}, {change.certainty})"
        f" with rule {escape(str(rule['name']))}, a = {rule['lr']:g}, {outcome.steps} steps.",
        soft_wrap=True,
    )
    for name, (before, after) in (outcome.figures or {}).items():
        stdout.print(f"{name.replace('_', ' ').capitalize()} {before:.4g} -> {after:.4g}.")
    if outcome.chosen:
        stdout.print(outcome.chosen, soft_wrap=True)
    stdout.print(escape(f"Run:     {run.path}\nAdapter: {run.adapter}\nReport:  {run.report}"), soft_wrap=True)
    if outcome.status == "stopped":
        stderr.print("[bold yellow]The run was stopped by an alarm; see the report.[/]")
    return CODES[outcome.status]
