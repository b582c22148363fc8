"""The kinds of task and of record that lorate fine-tunes on."""

from typing import Literal

TaskKind = Literal["causal-lm", "sequence-classification", "image-classification"]

RecordKind = Literal[
    "prompt-completion", "messages", "text", "preference", "preference-text", "labelled-text", "labelled-image"
]

PREFERENCES: tuple[RecordKind, ...] = ("preference", "preference-text")
"""Records with two answers, of which one was chosen: as messages, or as texts."""

Judged = Literal["tokens", "classes", "pairs"]
"""What the held-out figures are about: tokens of a language model, classes, or pairs of answers."""

TrainOn = Literal["answers", "last", "all"]
