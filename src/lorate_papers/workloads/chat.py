"""Conversations of the Chit-Chat Challenge, from the ``chitchat-dataset`` wheel, which is not imported."""

import json
from typing import Any

from lorate.tasks.embedded import package_file

INSTALL = "pip install --no-deps chitchat-dataset"


def conversations() -> list[dict[str, Any]]:
    """All 7,168 conversations in the order of the file.

    Returns:
        Each with ``messages``, a list of turns (a turn is a list of ``{"text": ..., "sender": ...}``), and ``prompt``,
        the question that the two were given to begin with.

    Raises:
        LorateError: the package is not installed.
    """
    path = package_file("chitchat_dataset", "dataset.json", INSTALL)
    return list(json.loads(path.read_text(encoding="utf-8")).values())


def turns(conversation: dict[str, Any]) -> list[str]:
    """What was said, a line for each turn."""
    return [" ".join(message["text"] for message in turn) for turn in conversation["messages"]]


def chat_texts() -> list[str]:
    """Every conversation as one text, a turn a line."""
    return ["\n".join(turns(conversation)) for conversation in conversations()]
