"""What TRL's SFTTrainer needs of data and tokenizer, checked before it starts."""

from typing import Any

from lorate.errors import LorateError
from lorate.runs.reading import LARGEST
from lorate.tasks.kinds import RecordKind
from lorate.tasks.model_limits import TEMPLATE_SECONDS, within


def check_causal_data(dataset: Any, record_kind: RecordKind, tokenizer: Any, *, max_length: int | None) -> None:
    """Refuse what SFTTrainer would fail on later, or would train on without learning anything.

    SFTTrainer takes ``prompt, completion``, ``messages`` and ``text`` records as they are. It needs a chat
    template for messages and an end token for the others (which it appends), cuts from the end at
    ``max_length``, and silently drops a prompt that leaves no room for its completion.

    Args:
        dataset: a part of `lorate.tasks.data.LoadedData`.
        record_kind: of its records.
        tokenizer: of the model.
        max_length: tokens a record is cut to; None where prompts are trained on as well and may fill a record.

    Raises:
        LorateError: the tokenizer lacks what the records need or refuses one, or no record keeps any completion.
    """
    if record_kind == "messages":
        if not tokenizer.chat_template:
            raise LorateError(
                "The data holds chat messages, but the model's tokenizer has no chat template: "
                "use an instruct model, or prompt and completion records."
            )
        for messages in dataset["messages"]:
            _check_conversation(messages, tokenizer)
        return
    if tokenizer.eos_token is None:
        raise LorateError("The model's tokenizer has no end token, which ends every record: use another model.")
    if (
        record_kind == "prompt-completion"
        and max_length is not None
        and not any(len(tokenizer(prompt)["input_ids"]) < max_length for prompt in dataset["prompt"])
    ):
        raise LorateError(
            f"Every prompt alone fills the maximum of {max_length} tokens, so no completion is left to learn: "
            "raise the maximum length."
        )


def _check_conversation(messages: Any, tokenizer: Any) -> None:
    """The template comes with the model: it may refuse the order of roles, and its sandbox what it tries to reach."""
    try:
        with within(TEMPLATE_SECONDS, f"The chat template of {tokenizer.name_or_path}"):
            text = tokenizer.apply_chat_template(messages, tokenize=False)
        if len(text) > LARGEST:
            raise LorateError(f"The chat template of {tokenizer.name_or_path} makes {len(text):,} characters.")
    except LorateError:
        raise
    except Exception as error:  # whatever a template can do wrong
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise LorateError(
            f"The chat template of {tokenizer.name_or_path} refuses the conversation that begins with "
            f"{messages[0]['content'][:40]!r} ({reason}): change the conversation, or use another model."
        ) from error
