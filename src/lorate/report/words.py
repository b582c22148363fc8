"""Numbers, durations and names in words, for people."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


LARGEST = 1e150
"""Of the numbers that are shown: what is drawn is squared and added, and the largest float is about 1.8e308."""


def number(value: Any) -> float | None:
    """The value as a number of at most `LARGEST`, or None: a file may hold anything.

    >>> number(3), number("3"), number(None), number(float("nan")), number(True), number(1e200)
    (3.0, None, None, None, None, None)
    """
    if value.__class__ is float:  # the common case, a million times
        return value if -LARGEST <= value <= LARGEST else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) <= LARGEST else None
    return None


def step_of(record: Mapping[str, Any]) -> float | None:
    """The step of a record, None without one or beyond any run: the axis of a figure could not show it."""
    step = number(record.get("step"))
    return None if step is None or abs(step) > 1e15 else step


def numeral(value: float | None, digits: int = 4) -> str:
    """A number with a few significant digits, an en dash where there is none.

    >>> numeral(1234567), numeral(0.0123456), numeral(1.5e-7), numeral(None), numeral(2.0)
    ('1,234,567', '0.01235', '1.5×10⁻⁷', '–', '2.000')
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size != 0 and (size < 1e-3 or size >= 1e7):
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}×{power_of_ten(int(exponent))}".replace("-", "−")
    if value == int(value) and size >= 10:
        return f"{value:,.0f}".replace("-", "−")
    decimals = digits - 1 if size == 0 else max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}".replace("-", "−")


def power_of_ten(exponent: int) -> str:
    """``10⁻³`` for −3."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def whole(value: Any) -> str:
    """A count with thousands separators.

    >>> whole(134515008), whole(None)
    ('134,515,008', '–')
    """
    size = number(value)
    return "–" if size is None else f"{size:,.0f}"


def percent(fraction: float) -> str:
    """A share with its sign.

    >>> percent(-0.081), percent(0.0004)
    ('−8.1%', '+0.04%')
    """
    size = abs(100 * fraction)
    decimals = 1 if size >= 0.95 or size == 0 else 2
    return f"{'−' if fraction < 0 else '+'}{size:.{decimals}f}%"


def duration(seconds: Any) -> str:
    """A time span with two units at most.

    >>> duration(0.42), duration(75), duration(7384), duration(None)
    ('0.4 s', '1 min 15 s', '2 h 3 min', '–')
    """
    span = number(seconds)
    if span is None or span < 0:
        return "–"
    if span < 59.95:
        return f"{span:.1f} s"
    minutes, rest = divmod(round(span), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(span / 60), 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def count(amount: int, singular: str, plural: str | None = None) -> str:
    """``1 alarm``, ``3 alarms``.

    >>> count(1, "alarm"), count(1200, "step"), count(0, "alarm")
    ('1 alarm', '1,200 steps', 'no alarms')
    """
    word = singular if amount == 1 else plural or singular + "s"
    return f"{amount:,} {word}" if amount else f"no {word}"


def listing(parts: Sequence[str], most: int = 4) -> str:
    """``a, b and c``; beyond ``most`` parts the rest is counted.

    >>> listing(["a", "b", "c"]), listing(["1", "2", "3", "4", "5", "6"], most=3)
    ('a, b and c', '1, 2, 3 and 3 more')
    """
    if len(parts) > most:
        parts = [*parts[:most], f"{len(parts) - most} more"]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def printable(text: Any, most: int = 60) -> str:
    r"""Text fit for a label in a figure: one line, nothing invisible, the middle left out when long.

    >>> printable("tab\there"), printable("x" * 9, most=5)
    ('tab here', 'xx…xx')
    """
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "�" for letter in line)
    if len(line) <= most:
        return line
    head = most // 2
    return f"{line[:head]}…{line[len(line) - (most - 1 - head) :]}"
