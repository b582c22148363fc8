"""YAML as text and nothing more: no Python objects, and one kind of error."""

from typing import Any

from lorate.extras import require


def parse_yaml(text: str) -> Any:
    """The plain values in a YAML text.

    Raises:
        ValueError: it is not YAML, in one line.
    """
    yaml = require("yaml", extra="cli")
    try:
        return yaml.safe_load(text)
    # a value that does not fit its tag (!!int x, a 13th month) makes the loader fail in any of these ways
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
