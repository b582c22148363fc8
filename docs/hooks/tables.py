"""Tables that are made from the code, so that they cannot fall behind it.

``<!-- options: train -->`` becomes the options of a command, ``<!-- options: alpha law -->`` those of a command of a
group, ``<!-- rules -->`` the rules for the step size.
"""

import html
import re
from typing import Any

import typer

from lorate.cli.app import app
from lorate.cli.rules import NEEDS
from lorate.rules import RULES

OPTIONS = re.compile(r"<!-- options: ([\w ]+?) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the tables of a page."""
    return OPTIONS.sub(lambda match: _options(match[1]), markdown).replace("<!-- rules -->", _rules())


def _options(command: str) -> str:
    rows = ["| option | default | what it does |", "|---|---|---|"]
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.get_command(None, word)
    for option in found.params:
        name = ", ".join(option.opts) if option.param_type_name == "option" else option.metavar or option.name.upper()
        default = "" if option.default is None or option.default is False or option.required else f"`{option.default}`"
        rows.append(f"| `{name}` | {default} | {_cell(option.help)} |")
    return "\n".join(rows)


def _rules() -> str:
    rows = ["| rule | formula | must know | proved | use |", "|---|---|---|---|---|"]
    for rule in RULES.values():
        needs = ", ".join(NEEDS[need] for need in NEEDS if need in rule.needs) or "–"
        needs = re.sub(r"--[\w-]+", r"`\g<0>`", needs)
        cells = (f"`{rule.name}`", rule.formula, needs, rule.guarantee, rule.use_when)
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
