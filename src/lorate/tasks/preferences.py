"""Preference records: a prompt, the answer that was chosen, and the one that was rejected."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks.kinds import RecordKind
from lorate.tasks.messages import encodable, kind_of, messages, parsed

CHOSEN = ("chosen", "chosen_response", "preferred_output", "response_j")
REJECTED = ("rejected", "rejected_response", "non_preferred_output", "response_k")
"""What data sets call the two answers: TRL and most others; Argilla; OpenAI; Stack Exchange paired."""


def answers_of(names: Sequence[str]) -> list[str]:
    """The columns of the two answers; empty where there are none.

    >>> answers_of(["id", "prompt", "chosen", "rejected"]), answers_of(["chosen"])
    (['chosen', 'rejected'], [])
    """
    pairs = zip(CHOSEN, REJECTED, strict=True)
    return next((list(pair) for pair in pairs if {*pair} <= {*names}), [])


def preference(
    prompt: object, chosen: object, rejected: object, *, plain: bool, context: str, system: str, tools: Any, where: str
) -> tuple[RecordKind, dict[str, Any]]:
    """A preference record as TRL's DPOTrainer takes it: three texts, or three lists of messages.

    Texts stay texts where ``plain``; all else becomes a conversation. Where both answers hold the whole conversation,
    what they have in common is the prompt (TRL's ``extract_prompt``), whatever else is called so.

    Args:
        prompt: a text, a list of messages, OpenAI's object with ``messages``, or None.
        chosen: a text, a message, or a list of messages.
        rejected: likewise.
        plain: whether texts are completed as they are, without a chat template.
        context: goes behind a prompt that is a text.
        system: a first message.
        tools: descriptions of tools, or None.
        where: file and line, for errors.

    Returns:
        The kind and its fields; an answer that is missing is empty, and so is a prompt.

    Raises:
        LorateError: a value of the wrong type.
    """
    chosen, rejected, prompt = parsed(chosen), parsed(rejected), parsed(prompt)
    if plain and all(isinstance(value, str | None) for value in (prompt, chosen, rejected)):
        texts = {
            name: encodable(str(value or ""), name, where)
            for name, value in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected))
        }
        if prompt is None:
            texts = _common(texts["chosen"], texts["rejected"]) or texts
        return "preference-text", texts
    if isinstance(prompt, dict) and "messages" in prompt:
        tools, prompt = tools or prompt.get("tools"), prompt["messages"]
    sides = [_turns(chosen, "chosen", where), _turns(rejected, "rejected", where)]
    given = [] if not prompt else _turns(prompt, "prompt", where, role="user", context=context)
    if all(side and side[0]["role"] != "assistant" for side in sides):  # the whole conversation, twice
        fields = _common(*sides) or {"prompt": [], "chosen": sides[0], "rejected": sides[1]}
    else:
        fields = {"prompt": given, "chosen": sides[0], "rejected": sides[1]}
    if system.strip() and fields["prompt"] and fields["prompt"][0]["role"] != "system":
        fields["prompt"] = [{"role": "system", "content": system}, *fields["prompt"]]
    return "preference", fields | ({"tools": tools} if tools else {})


def fault(fields: Mapping[str, Any], kind: RecordKind) -> str:
    """Why a preference record cannot be learned from; empty if it can.

    >>> fault({"prompt": "a", "chosen": "b", "rejected": "b"}, "preference-text")
    'chosen and rejected are the same'
    """
    for name in ("chosen", "rejected"):
        value = fields[name]
        says = (
            value.strip() if isinstance(value, str) else any(t["content"].strip() or t.get("tool_calls") for t in value)
        )
        if not says:
            return f"{name} is missing"
    if fields["chosen"] == fields["rejected"]:
        return "chosen and rejected are the same"
    if kind == "preference":
        if not fields["prompt"]:
            return "there is no prompt that both answers share"
        if any(fields[name][0]["role"] != "assistant" for name in ("chosen", "rejected")):
            return "chosen and rejected differ before the assistant's answer"
    return ""


def _common(chosen: Any, rejected: Any) -> dict[str, Any]:
    if not chosen or not rejected or chosen == rejected:
        return {}
    extract: Any = require("trl.data_utils", extra="hf").extract_prompt
    return dict(extract({"chosen": chosen, "rejected": rejected}))


def _turns(value: object, key: str, where: str, role: str = "assistant", context: str = "") -> list[dict[str, Any]]:
    if value is None or value in ("", []):
        return []
    if isinstance(value, str):
        value = [{"role": role, "content": "\n\n".join(part for part in (value, context) if part.strip())}]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise LorateError(f"{where}: {key} must be a text, a message or a list of messages, found {kind_of(value)}.")
    return [{name: part for name, part in turn.items() if name != "weight"} for turn in messages(value, where, key=key)]
