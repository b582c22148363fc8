"""Shows how far a preparation is: a bar on a terminal with rich, plain lines on standard error otherwise."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Announce a longer piece of work.

    Args:
        what: is done, in a few words.
        total: its steps.

    Yields:
        A function to call with the steps done so far and a few words on the state.
    """
    if not sys.stderr.isatty():
        yield _lines(what, total)
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:
        yield _lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, state="")
        yield lambda done, state: bar.update(task, completed=done, state=state)


def _lines(what: str, total: int) -> Callable[[int, str], None]:
    tenth = max(1, total // 10)

    def show(done: int, state: str) -> None:
        if done % tenth == 0 or done == total:
            print(f"{what}: {done} of {total}, {state}", file=sys.stderr, flush=True)

    return show
