"""``lorate train``: fine-tune with LoRA."""

import logging
import os
import shlex
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lorate.cli.console import stderr, stdout
from lorate.cli.launch import is_first, is_launched, launch
from lorate.errors import LorateError
from lorate.rules import RULES
from lorate.runs.reading import read_text
from lorate.runs.safe_yaml import parse_yaml

CODES = {"finished": 0, "stopped": 1, "interrupted": 130}
_NEED_L = ", ".join(name for name, rule in RULES.items() if "smoothness" in rule.needs)


class Task(StrEnum):
    """The kinds of model."""

    causal_lm = "causal-lm"
    sequence_classification = "sequence-classification"
    image_classification = "image-classification"


def _number_or_law(text: str | float) -> float | str:
    if text == "law":
        return "law"
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor law.") from None


def train(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(help="Hub id, local directory or .gguf file. Default: the embedded SmolLM2-135M-Instruct."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Hub id, or local .jsonl, .csv, .txt file, text or image folder. Default: embedded data."),
    ] = None,
    eval_data: Annotated[str | None, typer.Option(help="Held-out data; a part of --data if not given.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run directory to make. Default: runs/<next number>.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with options; the command line wins.")] = None,
    task: Annotated[Task, typer.Option(help="Kind of model.")] = Task.causal_lm,
    rule: Annotated[str, typer.Option(help=f"Rule for the step size: {', '.join(RULES)}.")] = "auto",
    lr: Annotated[float | None, typer.Option(help="The rule's constant a; each rule has its default.")] = None,
    smoothness: Annotated[
        float | None, typer.Option(help=f"L of the loss, for the rules that need it: {_NEED_L}.")
    ] = None,
    rank: Annotated[int, typer.Option(help="Rank r of the adapters.")] = 8,
    alpha: Annotated[
        Any,
        typer.Option(
            parser=_number_or_law, metavar="NUMBER|law", help="lora_alpha; the scaling is alpha / rank. law: 256·√rank."
        ),
    ] = 16.0,
    targets: Annotated[
        str | None, typer.Option(help="Layers to adapt, separated by commas. Default: the architecture's usual ones.")
    ] = None,
    dropout: Annotated[float, typer.Option(help="Dropout of the adapters' input.")] = 0.0,
    batch_size: Annotated[int, typer.Option(help="Samples of a micro-batch.")] = 4,
    accumulate: Annotated[int, typer.Option(help="Micro-batches of a step.")] = 1,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 100,
    max_length: Annotated[int, typer.Option(help="Tokens that a text is cut to.")] = 512,
    train_on: Annotated[
        str, typer.Option(help="completion: prompts are given; all: every token counts.")
    ] = "completion",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    eval_fraction: Annotated[float, typer.Option(help="Part of the data to hold out.")] = 0.1,
    eval_examples: Annotated[int, typer.Option(help="Held-out examples to evaluate at most.")] = 64,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations. Default: a quarter of --steps.")
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints. Default: a quarter of --steps, at most 200.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Held-out prompts to complete before and after.")] = 2,
    on_alarm: Annotated[str, typer.Option(help="At a diverging or non-finite alarm: warn, stop or halve.")] = "warn",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: a GPU if there is one.")] = None,
    dtype: Annotated[str, typer.Option(help="Base weights: float32, bfloat16 or float16.")] = "float32",
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train together, a GPU each, and --batch-size samples each."),
    ] = None,
    report_to: Annotated[str, typer.Option(help="Another logger of transformers, such as wandb.")] = "none",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in --output.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --output.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
) -> int:
    """Fine-tune a language model, or a text or image classifier, with LoRA.

    Leaves a run directory with the adapter (PEFT's format), records, report and how to use it.
    Ctrl-C saves a checkpoint first; --resume goes on with the same numbers.

    Examples:
    `lorate train --data chats.jsonl --steps 200 --output runs/chats`

    `lorate train --model meta-llama/Llama-3.2-1B --data my.jsonl --rule normalized --lr 0.05`

    `lorate train --task image-classification --model microsoft/resnet-18 --data photos/`

    `lorate train --data chats.jsonl --processes 4`

    `lorate train --output runs/chats --resume`
    """
    silence_libraries()
    check_processes(processes)
    count = int(os.environ.get("WORLD_SIZE", "1")) if is_launched() else processes or 1
    if count > 1 and not is_launched() and not dry_run:
        return launch(count, context.obj)
    given = _given(context)
    if targets is not None:
        given["targets"] = [name.strip() for name in targets.split(",") if name.strip()]
    from lorate.cli.progress import TerminalListener
    from lorate.training import TrainConfig
    from lorate.training import dry_run as plan_only
    from lorate.training import resume as go_on
    from lorate.training import train as start

    if resume:
        return _finish(_resume(given, output, config, force or dry_run, go_on))
    options = options_from_file(config) | given
    settings = TrainConfig.from_mapping(options, source=str(config or "the command line"))
    if dry_run:
        if not is_first():
            return 0
        with TerminalListener() as listener:
            plan = plan_only(settings, listener, processes=count)
        _print_plan(settings, plan)
        return 0
    place = output or _next_run(Path("runs"))
    command = "lorate " + shlex.join(context.obj)
    with TerminalListener() as listener:
        outcome = start(settings, place, force=force, command=command, listener=listener)
    return _finish(outcome)


def check_processes(wanted: int | None) -> None:
    """A launcher's number of processes goes before ``--processes``: they must be the same.

    Raises:
        LorateError: they differ.
    """
    there = int(os.environ.get("WORLD_SIZE", "1"))
    if is_launched() and wanted not in (None, there):
        raise LorateError(f"--processes {wanted}, but a launcher started {there}; leave --processes out.")


def _given(context: typer.Context) -> dict[str, Any]:
    """The options of a run that were typed, so that a YAML file can supply the others."""
    other = {"output", "config", "resume", "force", "dry_run", "targets", "processes"}
    typed = {
        name: value
        for name, value in context.params.items()
        if name not in other and str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    }
    return {name: value.value if isinstance(value, Task) else value for name, value in typed.items()}


def options_from_file(path: Path | None) -> dict[str, Any]:
    """What a YAML file for ``--config`` says; nothing without one.

    Raises:
        LorateError: the file cannot be read, or is no map of options.
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
        raise LorateError(f"--config {path} is no YAML: {error}.") from None
    if not isinstance(options, dict):
        raise LorateError(f"--config {path} should hold one option a line, name: value.")
    return options


def _resume(given: dict[str, Any], output: Path | None, config: Path | None, conflict: bool, go_on: Any) -> Any:
    from lorate.cli.progress import TerminalListener

    if output is None:
        raise LorateError("--resume needs --output: the directory of the run to go on with.")
    steps = given.pop("steps", None)
    if given or config or conflict:
        what = ", ".join(f"--{name.replace('_', '-')}" for name in given) or "--config, --force and --dry-run"
        raise LorateError(f"--resume goes on with the run's own options; leave out {what} (only --steps may change).")
    with TerminalListener() as listener:
        return go_on(output, steps=steps, listener=listener)


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
    for name in ("transformers", "datasets", "accelerate", "trl", "peft", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _print_plan(settings: Any, plan: Any) -> None:
    table = Table(title="Plan (nothing was written)", show_header=False)
    rows = {
        "trainable parameters": f"{plan.trainable:,} of {plan.parameters:,} ({plan.trainable / plan.parameters:.2%})",
        "adapted layers": f"{plan.adapted_layers}, rank {settings.rank}, scaling {settings.scaling:g}",
        "records": f"{plan.train_examples} to train on, {plan.eval_examples} held out",
        "step": f"{plan.samples_per_step} samples"
        + (f", at most {plan.tokens_per_step:,} tokens" if plan.tokens_per_step else ""),
        "run": f"{settings.steps} steps, {settings.steps * plan.samples_per_step / plan.train_examples:.1f} epochs",
        "step size": f"{settings.rule}, a = {settings.resolved_lr:g}",
        "memory, roughly": f"{plan.memory_bytes / 2**30:.1f} GiB",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    stdout.print(table)


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
            f"Interrupted after {outcome.steps} steps; go on with: lorate train --output {place} --resume{together}",
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
    stdout.print(escape(f"Run:     {run.path}\nAdapter: {run.adapter}\nReport:  {run.report}"), soft_wrap=True)
    if outcome.status == "stopped":
        stderr.print("[bold yellow]The run was stopped by an alarm; see the report.[/]")
    return CODES[outcome.status]
