"""Formats of records for language models, recognised by their columns."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from lorate.errors import LorateError
from lorate.tasks.kinds import PREFERENCES, RecordKind, TaskKind
from lorate.tasks.messages import encodable, kind_of, messages, parsed, tools
from lorate.tasks.preferences import CHOSEN, REJECTED, answers_of, preference

CHATS = ("messages", "conversations", "conversation")
QUESTIONS = ("instruction", "question", "query", "prompt", "problem", "input", "inputs")
ANSWERS = ("output", "response", "answer", "completion", "solution", "answers", "targets")
CONTEXTS = ("input", "context")
SYSTEMS = ("system", "system_prompt")
BESIDE = (*SYSTEMS, "context", "tools", "functions", "history")
"""Columns that a record may lack where others of its source have them."""
LABELLED: dict[TaskKind, tuple[str, str]] = {
    "sequence-classification": ("text", "label"),
    "image-classification": ("image", "label"),
}
KINDS_OF_TASK: dict[TaskKind, tuple[RecordKind, ...]] = {
    "causal-lm": ("prompt-completion", "messages", "text", *PREFERENCES),
    "sequence-classification": ("labelled-text",),
    "image-classification": ("labelled-image",),
}
_EXPECTED = (
    "messages; conversations; prompt, completion; instruction, output; question, answer; prompt, response; text; "
    "or prompt, chosen, rejected"
)
Columns = Mapping[str, str]
"""What a user says about his columns: ours to his."""


def expected_keys(task: TaskKind) -> str:
    """The columns that a task's records may have, in words.

    >>> expected_keys("sequence-classification")
    'text, label'
    """
    return ", ".join(LABELLED[task]) if task in LABELLED else _EXPECTED


def parse_columns(text: str | None) -> dict[str, str]:
    """The option ``columns``, such as ``prompt=question,completion=answer``: lorate's name, then that of the data.

    Raises:
        LorateError: not of this form, or a name that lorate does not know.

    >>> parse_columns("prompt=Frage,completion=Antwort")
    {'prompt': 'Frage', 'completion': 'Antwort'}
    """
    known = {*CHATS, *QUESTIONS, *ANSWERS, *CONTEXTS, *SYSTEMS, *CHOSEN, *REJECTED, "text", "label", "image", "tools"}
    columns = {}
    for part in (text or "").split(",") if text else []:
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not equals or not ours or not theirs:
            raise LorateError(
                f"columns must be NAME=COLUMN pairs, such as prompt=question,completion=answer; got {part!r}."
            )
        if ours not in known:
            raise LorateError(f"columns: {ours!r} is not a name that lorate reads{near(ours, sorted(known))}.")
        columns[ours] = theirs
    return columns


def columns_of(found: Sequence[str], task: TaskKind, where: str, columns: Columns) -> dict[str, str]:
    """Which columns are read, by lorate's name for each: what the user said, or else what is recognised.

    Two answers of which one was chosen come first, then chats, then pairs of a question and an answer, then plain
    text; other columns are left out.

    Args:
        found: the columns of the data.
        task: the kind of task.
        where: file and line, for errors.
        columns: what the user said.

    Raises:
        LorateError: a column is not there (the nearest names are given), no format fits, or more than one.

    >>> columns_of(["id", "question", "answer"], "causal-lm", "a.csv, line 1", {})
    {'question': 'question', 'answer': 'answer'}
    """
    for theirs in columns.values():
        if theirs not in found:
            raise LorateError(
                f"{where}: has no column {shown(theirs)}{near(theirs, found)}; its columns are: {_list(found)}."
            )
    # a spreadsheet says Question; where there is a column question as well, that one
    named = dict(columns) or {name.strip().lower(): name for name in found} | {name: name for name in found}
    if task in LABELLED:
        chosen = [name for name in LABELLED[task] if name in named]
        fits = len(chosen) == 2
    else:
        chosen = _chosen(list(named), where)
        fits = bool(chosen)
    if not fits:
        wanted = LABELLED.get(task, (*CHATS[:2], *QUESTIONS, *ANSWERS, "text", "chosen", "rejected"))
        hint = next((near(name, wanted) for name in named if near(name, wanted)), "")
        raise LorateError(
            f"{where}: expected the columns {expected_keys(task)}; found {_list(found)}{hint}; "
            "or say which are which, as in --columns prompt=question,completion=answer."
        )
    return {name: named[name] for name in chosen}


def _chosen(names: list[str], where: str) -> list[str]:
    """The names of one format among these, the question or conversation first; empty if none fits."""
    extra = [name for name in ("tools", "functions", "history") if name in names]
    if pair := answers_of(names):
        asked = [name for name in (*QUESTIONS, *CHATS) if name in names][:1]
        context = [name for name in CONTEXTS if name in names and name not in asked] if asked else []
        return [*asked, *pair, *context, *[name for name in SYSTEMS if name in names][:1], *extra]
    for chat in CHATS:
        if chat in names:
            return [chat, *extra, *[name for name in SYSTEMS if name in names][:1]]
    answers = [name for name in ANSWERS if name in names]
    questions = [name for name in QUESTIONS if name in names]
    context = [name for name in CONTEXTS if name in names and questions[:1] not in ([name], [])]
    questions = [name for name in questions if name not in context]
    if not answers or not questions:
        if "role" in names:
            raise LorateError(
                f"{where}: the column role says that a row is one message: put the messages of a conversation into one "
                'record, {"messages": [{"role": ..., "content": ...}, ...]}.'
            )
        return ["text"] if "text" in names else []
    if len(answers) > 1 or len(questions) > 1:
        raise LorateError(
            f"{where}: the columns {_list([*questions, *answers])} fit more than one format: say which are question "
            f"and answer, as in --columns question={questions[0]},answer={answers[-1]}."
        )
    return [*questions, *answers, *context, *[name for name in SYSTEMS if name in names][:1], *extra]


def converted(fields: Mapping[str, Any], where: str) -> tuple[RecordKind, dict[str, Any]]:
    """A record in one of lorate's forms for language models, from the columns of `columns_of`.

    Texts ``prompt, completion`` with nothing beside them, and ``text``, stay as they are. All else becomes a
    conversation: of a question (with its context after a blank line) and an answer, or of a prompt and a completion
    that are lists of messages, of which those of the prompt are given and not learned.

    Args:
        fields: values by lorate's names.
        where: file and line, for errors.

    Returns:
        The kind, and the fields of that kind; the text, completion or answer may be empty, as it is where the question
        is missing.

    Raises:
        LorateError: a value of the wrong type.
    """
    if "text" in fields and len(fields) == 1:
        return "text", {"text": text(fields["text"], "text", where)}
    offered = tools(fields.get("tools", fields.get("functions")), where)
    system = next((text(fields[name], name, where) for name in SYSTEMS if name in fields), "")
    if pair := answers_of(list(fields)):
        prompted = next((name for name in (*QUESTIONS, *CHATS) if name in fields), None)
        more = next((text(fields[name], name, where) for name in CONTEXTS if name in fields and name != prompted), "")
        plain = prompted in (None, "prompt") and not more and not any(name in fields for name in SYSTEMS)
        return preference(
            fields.get(prompted or ""), *(fields[name] for name in pair),
            plain=plain, context=more, system=system, tools=offered, where=where,
        )  # fmt: skip
    chat = next((name for name in CHATS if name in fields), None)
    if chat is not None:
        turns = messages(fields[chat], where, key=chat)
    else:
        question = next(name for name in fields if name in QUESTIONS)
        answer = next(name for name in fields if name in ANSWERS)
        context = next(
            (text(fields[name], name, where) for name in fields if name in CONTEXTS and name != question), ""
        )
        asked, said = fields[question], fields[answer]
        if isinstance(said, dict) and isinstance(said.get("text"), list):  # SQuAD
            said = next(iter(said["text"]), "")
        elif answer == "answers":  # xLAM: the calls that answer a query
            asked, said = [{"role": "user", "content": asked}], [{"role": "assistant", "tool_calls": said}]
        if isinstance(asked, list) or isinstance(said, list):
            asked = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
            said = said if isinstance(said, list) else [{"role": "assistant", "content": said}]
            given = [
                {**turn, "weight": 0} if turn["role"] == "assistant" else turn
                for turn in messages(asked, where, key=question)
            ]
            turns = given + (messages(said, where, key=answer) if said else [])
        else:
            said = text(said, answer, where) if asked is not None else ""
            asked = text(asked, question, where)
            if {*fields} == {"prompt", "completion"}:
                return "prompt-completion", {"prompt": asked, "completion": said}
            body = "\n\n".join(part for part in (asked, context) if part.strip())
            said = said if body else ""
            turns = messages([{"role": "user", "content": body}, {"role": "assistant", "content": said}], where)
        if before := parsed(fields.get("history")):  # LLaMA-Factory: earlier questions and answers, in pairs
            flat = [entry for pair in before for entry in pair] if isinstance(before, list) else before
            turns = [*messages(flat, where, key="history"), *turns]
    if system.strip() and not (turns and turns[0]["role"] == "system"):
        turns = [{"role": "system", "content": system}, *turns]
    if offered and turns and turns[0]["role"] == "system" and "<tools>" in turns[0]["content"]:
        offered = None  # Hermes: the system message describes them already
    return "messages", {"messages": turns} | ({"tools": offered} if offered else {})


def text(value: object, key: str, where: str) -> str:
    """A text; what is missing is an empty one.

    Raises:
        LorateError: neither a string nor missing.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LorateError(f"{where}: {key} must be a string, found {kind_of(value)}.")
    return encodable(value, key, where)


def near(name: str, known: Sequence[str]) -> str:
    """A question that names the nearest known names; empty if none is near.

    >>> near("promt", ["prompt", "completion"])
    '; did you mean prompt?'
    """
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {shown(close[0])}?" if close and name not in known else ""


def shown(key: str) -> str:
    """A key as an error shows it: on one line, printable, not too long."""
    plain = key if key.isprintable() and key.strip() else ascii(key)
    return plain if len(plain) <= 40 else plain[:37] + "..."


def _list(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names[:20]) + (", ..." if len(names) > 20 else "") if names else "none"
