"""Inputs that nobody meant: any value, damaged bytes, records with a wrong entry, YAML that asks for more than text."""

import json
from collections.abc import Mapping
from typing import Any

import yaml
from hypothesis import strategies as st

DEEP = "@deep@"
"""Stands for a value nested a thousand times, which ``json.dumps`` could not write."""

numbers = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([2**31, 2**63, -(2**64), 10**400, -(10**400)]),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")]),
)
words = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "\0",
            "\ufeff",
            "\u2028",
            "‮abc",
            "[/]",
            "[bold]",
            "</script>",
            "{{7*7}}",
            "\x1b[2J",
            "é\r\n",
            "\ud800",
            "../../up",
            "/dev/null",
            "a" * 300,
            "1e5",
            "null",
            "law",
            DEEP,
        ]
    ),
    st.text(st.characters(), max_size=20),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)


def json_line(value: Any) -> bytes:
    """JSON as Python writes it, NaN and halves of surrogate pairs included."""
    text = json.dumps(value).replace(f'"{DEEP}"', "[" * 1000 + "]" * 1000)
    return text.encode("utf-8")


@st.composite
def wrong_records(draw: Any, right: Mapping[str, Any]) -> dict[str, Any]:
    """A record with up to three entries replaced, left out or added; often none."""
    record = dict(right)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 3]))):
        key = draw(st.sampled_from([*right, ""]))
        if draw(st.integers(0, 4)) == 0:
            record.pop(key, None)
        elif isinstance(record.get(key), dict) and draw(st.booleans()):
            record[key] = draw(wrong_records(record[key]))
        else:
            record[key or draw(words)] = draw(values)
    return record


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """The bytes as they are, or cut, torn, repeated, in another encoding, or something else altogether."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 200)))
    how = draw(
        st.sampled_from(["whole", "whole", "cut", "torn", "noise", "repeated", "mark", "wide", "latin", "other"])
    )
    return {
        "whole": lambda: whole,
        "cut": lambda: whole[:start],
        "torn": lambda: whole[:start] + whole[end:],
        "noise": lambda: whole[:start] + draw(st.binary(max_size=12)) + whole[start:],
        "repeated": lambda: whole[:end] + whole[start:],
        "mark": lambda: b"\xef\xbb\xbf" + whole,
        "wide": lambda: whole.decode("utf-8", "replace").encode("utf-16"),
        "latin": lambda: whole[:start] + "é\xa0ß".encode("latin-1") + whole[start:],
        "other": lambda: draw(st.one_of(st.binary(max_size=200), st.sampled_from([b"", b"\n" * 50, b"[" * 100_000]))),
    }[how]()


BOMB = "&a [x,x,x,x,x,x,x,x,x,x]"
for _name, _inner in zip("bcdefghi", "abcdefgh", strict=True):
    BOMB = f"[{BOMB}, &{_name} [{', '.join([f'*{_inner}'] * 10)}]]"
"""A value of 10⁹ words in a line of text."""

YAML_TRAPS = (
    "!!int abc", "!!int ''", "!!float x", "!!bool x", "!!timestamp x", "!!null x", "!!binary é", "!!set [a]",
    "!!python/object/apply:os.mkdir [made]", "!!python/name:os.system", "!unknown x",
    "!!omap x", "2024-13-45", "2024-02-30 25:61:61",
    "&a [*a]", "&a {<<: *a}", "{<<: x}", "*missing", "? [a]", "{[a]: b}", "{{a: b}: c}", "0x", "0b", "1_", "_", "1e400",
    "'", '"\\ud800"', '"\\x', "|", ">", "[", "{", "@", "%YAML 9.9", "\t", "---\n---", "[" * 3000, "9" * 5000,
    "190:20:30", "=", "<<", "~", ".inf", ".nan", BOMB,
)  # fmt: skip
"""Text at which YAML's loader fails in one way or another, or that means more than it says."""


@st.composite
def yaml_files(draw: Any, options: Mapping[str, st.SearchStrategy[Any]]) -> bytes:
    """A file of options, right or wrong, with traps in it, and perhaps damaged."""
    chosen = draw(st.lists(st.sampled_from([*options, "", "ranks", "batch-size"]), max_size=4, unique=True))
    lines = []
    for name in chosen:
        if draw(st.booleans()):
            lines.append(f"{name}: {draw(st.sampled_from(YAML_TRAPS))}\n")
        else:
            value = draw(st.one_of(options.get(name, values), values))
            lines.append(yaml.safe_dump({name: value}, allow_unicode=draw(st.booleans())))
    if draw(st.integers(0, 5)) == 0:
        lines.append(draw(st.sampled_from(YAML_TRAPS)))
    return draw(damaged("".join(lines).encode("utf-8", "surrogatepass")))
