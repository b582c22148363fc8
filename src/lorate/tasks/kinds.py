"""The kinds of task and of record that lorate fine-tunes on."""

from typing import Literal

TaskKind = Literal["causal-lm", "sequence-classification", "image-classification"]

RecordKind = Literal["prompt-completion", "messages", "text", "labelled-text", "labelled-image"]

TrainOn = Literal["answers", "last", "all"]
