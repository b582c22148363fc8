"""One form for the conversations that people have: roles, contents as text, tool calls, weights."""

import json
from typing import Any

from lorate.errors import LorateError

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "chatgpt", "model", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "ipython"), "tool"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""What other formats call the four roles of a chat template; a role that is not here is passed on as it is."""
KEPT = ("name", "tool_call_id", "reasoning_content", "thinking")
"""What a template may read beside role, content and tool calls."""


def messages(value: object, where: str, *, key: str = "messages") -> list[dict[str, Any]]:
    """Messages as a chat template takes them, from OpenAI's form (role, content) or ShareGPT's (from, value).

    Contents in parts become one text. An empty message of the system is left out; an answer without content and
    without tool calls has weight 0, like one that is marked so. ``function_call`` becomes a tool call, and the
    arguments of a call, which OpenAI writes as JSON in a string, become an object.

    Args:
        value: what the record holds.
        where: file and line, for errors.
        key: the record's name for it, likewise.

    Raises:
        LorateError: no list of messages, a message without role or content, or a content that is not text.
    """
    value = parsed(value)
    if not isinstance(value, list) or not value:
        raise LorateError(f"{where}: {key} must be a list of at least one message, found {kind_of(value)}.")
    found = [_message(message, f"{where}, message {number}") for number, message in enumerate(_turns(value), start=1)]
    return [message for message in found if message["role"] != "system" or message["content"].strip()]


def _turns(value: list[Any]) -> list[Any]:
    """Texts by turns (LIMA) and pairs of input and output (Capybara) as messages; all else as it is."""
    if all(isinstance(entry, str) for entry in value):
        return [{"role": ("user", "assistant")[place % 2], "content": entry} for place, entry in enumerate(value)]
    if all(isinstance(entry, dict) and {*entry} == {"input", "output"} for entry in value):
        names = (("user", "input"), ("assistant", "output"))
        return [{"role": role, "content": entry[name]} for entry in value for role, name in names]
    return value


def tools(value: object, where: str) -> list[dict[str, Any]] | None:
    """Descriptions of tools as a template takes them; JSON in a string is read, ``None`` and ``[]`` are none.

    Raises:
        LorateError: no list of objects.
    """
    value = parsed(value)
    if value in (None, [], ""):
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise LorateError(f"{where}: tools must be a list of objects, found {kind_of(value)}.")
    # OpenAI's older files and xLAM's give the function alone
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in value]


def calls(value: object, where: str) -> list[dict[str, Any]]:
    """Tool calls ``{"type", "function": {"name", "arguments"}}``, from OpenAI's form or a list of functions.

    Raises:
        LorateError: no list of calls with a name.
    """
    value = parsed(value)
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list):
        raise LorateError(f"{where}: tool calls must be a list, found {kind_of(value)}.")
    found = []
    for call in value:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise LorateError(f"{where}: a tool call must have a function with a name, found {kind_of(call)}.")
        arguments = parsed(function.get("arguments", {}))
        rest = {key: call[key] for key in ("id",) if call.get(key) is not None}
        found.append({**rest, "type": "function", "function": {"name": function["name"], "arguments": arguments}})
    return found


def kind_of(value: object) -> str:
    """What a value is, in words for an error."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    if isinstance(value, list | dict) and not value:
        return "an empty list" if isinstance(value, list) else "an empty object"
    # a row of the hub may hold anything: bytes, a date, an image
    return names.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


def encodable(value: str, key: str, where: str) -> str:
    """The text itself.

    Raises:
        LorateError: half of a surrogate pair, which JSON can write and no tokenizer can read.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LorateError(f"{where}: {key} holds half of a surrogate pair, which is not a character.") from error
    return value


def _message(message: object, where: str) -> dict[str, Any]:
    if isinstance(message, dict) and "from" in message and "role" not in message:
        message = {**message, "role": message["from"], "content": message.get("value")}
    if (
        not isinstance(message, dict)
        or "role" not in message
        or not message.keys() & {"content", "tool_calls", "function_call"}
    ):
        found = ", ".join(map(str, message)) if isinstance(message, dict) and message else kind_of(message)
        raise LorateError(f"{where}: expected an object with the keys role and content, found {found}.")
    role = message["role"]
    if not isinstance(role, str) or not role.strip():
        raise LorateError(f"{where}: role must be a string, found {kind_of(role)}.")
    content = _content(message.get("content"), where)
    result: dict[str, Any] = {"role": ROLES.get(role.strip().lower(), role), "content": content}
    result |= {key: message[key] for key in KEPT if isinstance(message.get(key), str)}
    if isinstance(message.get("reasoning"), str):  # OpenRouter's name
        result.setdefault("reasoning_content", message["reasoning"])
    asked = message.get("tool_calls") or message.get("function_call")
    if role == "function_call":  # LLaMA-Factory's ShareGPT: the call is the text
        asked, result["content"] = content, ""
    if asked:
        result["tool_calls"] = calls(asked, where)
    weight = message.get("weight", message.get("train"))
    if result["role"] == "assistant" and (
        (weight is not None and not weight) or not (result["content"].strip() or asked)
    ):
        result["weight"] = 0
    return result


def _content(value: object, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        parts = []
        for part in value:
            text = part.get("text") if isinstance(part, dict) else part
            if not isinstance(text, str):
                kind = part.get("type", "unknown") if isinstance(part, dict) else kind_of(part)
                raise LorateError(f"{where}: content has a part of the type {kind}; only parts of text can be learned.")
            parts.append(text)
        value = "".join(parts)
    if not isinstance(value, str):
        raise LorateError(f"{where}: content must be a string, found {kind_of(value)}.")
    return encodable(value, "content", where)


def parsed(value: object) -> object:
    """JSON in a string, as tables have to store lists and objects; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
