"""What comes after training: ``lorate eval``, ``chat``, ``merge`` and ``push``."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lorate.cli.console import stderr, stdout
from lorate.cli.train import silence_libraries

Run = Annotated[Path, typer.Argument(help="Run directory of lorate train.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the run's own.")]


def evaluate(
    run: Run,
    data: Annotated[str, typer.Option(help="Data, given as for lorate train; all records are used.")],
    device: Device = None,
) -> None:
    """Compare base and adapter on other data: loss with standard error, perplexity or accuracy.

    Example: `lorate eval runs/chats --data test.jsonl`
    """
    with _working("Loading the run") as listener:
        from lorate.freed_memory import keep_freed_memory
        from lorate.training.tuned import evaluate_run, load_tuned

        keep_freed_memory()
        tuned = load_tuned(run, device=device)
        listener.phase("Evaluating")
        change, before, after = evaluate_run(tuned, data, listener)
    table = Table("", "base", "adapter", title=f"{escape(str(run))} on {escape(data)}, {change.examples} records")
    table.add_row("loss", f"{change.before:.4f}", f"{change.after:.4f}")
    last = after.figures()
    for name, value in before.figures().items():
        table.add_row(name.replace("_", " "), f"{value:.4g}", f"{last[name]:.4g}")
    stdout.print(table)
    stdout.print(f"Difference of the loss {change.after - change.before:+.4f} ({change.certainty}).", soft_wrap=True)


def chat(
    run: Run,
    both: Annotated[bool, typer.Option("--both", help="Also show the base model's answer.")] = False,
    system: Annotated[
        str | None, typer.Option(help="System message. Default: the chat template's own, if it has one.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Maximum new tokens per answer.")] = 256,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Sampling temperature; 0 always takes the most likely token.")
    ] = 0.0,
    device: Device = None,
) -> None:
    """Talk to a run's model. A line is a message; /both shows the base beside it, /new starts over, /quit ends.

    Examples:
    `lorate chat runs/chats`

    `echo "When do you open?" | lorate chat runs/chats --both`
    """
    with _working("Loading the run"):
        from lorate.training.talk import Talk
        from lorate.training.tuned import load_tuned

        talk = Talk(load_tuned(run, device=device), system, tokens, temperature)
    stderr.print(
        "Each line is a message. /both shows the base beside it, /new starts over, /quit ends."
        if talk.remembers
        else "The run was trained without a chat template: each line is completed as it is, and none is remembered; "
        "/both, /quit."
    )
    while (text := _line()) is not None:
        if text == "/quit":
            break
        if text == "/both":
            both = not both
        elif text == "/new":
            talk.forget()
        elif text:
            if both:
                stdout.print("[bold]base:[/] ", end="")
                talk.base_answer(text, _show)
                stdout.print("\n[bold]tuned:[/] ", end="")
            talk.answer(text, _show)
            stdout.print()


def merge(
    run: Run,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory to write. Default: RUN/merged.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Type of the weights. Default: the run's own; bfloat16 for a quantised base.")
    ] = None,
    device: Device = None,
) -> None:
    """Merge the adapter into its base: a model in transformers' own format, checked against base plus adapter.

    A quantised base is expanded to 16 bits first, so the adapter is merged into the weights it was trained on.

    Example: `lorate merge runs/chats --output models/chats`
    """
    with _working("Loading the run") as listener:
        from lorate.runs import RunDirectory
        from lorate.training.merging import merge as start
        from lorate.training.tuned import load_tuned

        if dtype is None and RunDirectory.open(run).read_config().get("quantize"):
            dtype = "bfloat16"
        tuned = load_tuned(run, device=device, dtype=dtype, dequantize=True)
        listener.phase("Merging, writing, and loading again")
        place = output or run / "merged"
        difference = start(tuned, place)
    stdout.print(
        f"Merged model: {escape(str(place))} ({tuned.config.dtype}); its outputs are those of base plus adapter within "
        f"{difference:.1g} of the largest.",
        soft_wrap=True,
    )


def push(
    run: Run,
    repository: Annotated[str, typer.Argument(help="Name on the Hugging Face hub, owner/name.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
) -> None:
    """Upload a run's adapter with its model card to the Hugging Face hub. Log in first: hf auth login.

    Example: `lorate push runs/chats me/chats-lora`
    """
    with _working("Uploading"):
        from lorate.training.publishing import push as start

        address = start(str(run), repository, private=private)
    stdout.print(f"Pushed: {escape(address)}", soft_wrap=True)


def _working(text: str) -> Any:
    """A sign of life before the libraries are loaded, which takes seconds."""
    stderr.print(f"[dim]{text} ...[/]")
    silence_libraries()
    from lorate.cli.progress import TerminalListener

    return TerminalListener()


def _line() -> str | None:
    if sys.stdin.isatty():
        stderr.print("[bold]> [/]", end="")
    line = sys.stdin.readline()
    return line.strip() if line else None


def _show(text: str) -> None:
    stdout.print(escape(text), end="", soft_wrap=True)
