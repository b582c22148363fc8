"""Where commands print: results to standard output, everything else to standard error."""

from rich.console import Console

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)
