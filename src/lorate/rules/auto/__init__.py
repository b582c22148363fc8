"""Rule ``auto``: the rule and the feedback that it follows."""

from lorate.rules.auto.rule import Auto

__all__ = ["Auto"]
