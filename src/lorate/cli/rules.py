"""``lorate rules``: the table of step-size rules."""

from rich.table import Table

from lorate.cli.console import stdout
from lorate.rules import RULES, Rule

NEEDS = {
    "loss": "the loss",
    "weight-gradient": "‖∇Loss(W)‖ (measured)",
    "smoothness": "L (--smoothness)",
    "closure": "full batch and a closure (not in a Trainer)",
}


def rules() -> None:
    """List the rules for the step size: formula, what they need, what is proved, when to use them.

    V is all adapters stacked, J the loss as a function of them, W the adapted weights; a is --lr.

    Example: `lorate rules`
    """
    table = Table("rule", "", title="Step-size rules (--rule)", show_lines=True, show_header=False)
    for rule in RULES.values():
        table.add_row(f"[bold]{rule.name}[/]", _description(rule))
    stdout.print(table)


def _description(rule: type[Rule]) -> str:
    needs = ", ".join(NEEDS[need] for need in NEEDS if need in rule.needs) or "nothing to measure or to give"
    default = "a must be given" if rule.default_lr is None else f"a = {rule.default_lr:g} by default"
    return (
        f"[bold]{rule.formula}[/]\n"
        f"[dim]needs[/]   {needs}; {default}\n"
        f"[dim]proved[/]  {rule.guarantee}\n"
        f"[dim]use[/]     {rule.use_when}"
    )
