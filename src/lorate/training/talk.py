"""Talk to a run: its adapter, and the base without it on demand."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks import Encoder, RecordKind, quiet
from lorate.training.tuned import Tuned

Show = Callable[[str], None]


@dataclass
class Talk:
    """A conversation with a tuned language model, word by word.

    A run on texts, or a model without a chat template, completes each text as it is, and nothing is remembered.

    Args:
        tuned: the run.
        system: a first message.
        most: new tokens of an answer at most.
        temperature: 0 takes the most likely token each time.

    Raises:
        LorateError: the run is not a language model.
    """

    tuned: Tuned
    system: str | None = None
    most: int = 256
    temperature: float = 0.0
    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.tuned.config.task != "causal-lm":
            raise LorateError(
                f"{self.tuned.run.path} is a {self.tuned.config.task} run; only a language model can chat."
            )
        tokenizer, config = self.tuned.base.processor, self.tuned.config
        trained_on = self.tuned.kind
        chats = tokenizer.chat_template and trained_on in (None, "messages", "preference")
        kind: RecordKind = "messages" if chats else "text"
        self._encoder = Encoder(tokenizer, kind, config.train_on, config.max_length)
        self.forget()

    @property
    def remembers(self) -> bool:
        """Whether it prompts with the chat template."""
        return self._encoder.template is not None

    def forget(self) -> None:
        """Begin again."""
        self.messages = [] if self.system is None else [{"role": "system", "content": self.system}]

    def answer(self, text: str, show: Show) -> str:
        """The adapter's answer, which is remembered.

        Args:
            text: what the user says.
            show: is given the answer piece by piece.
        """
        reply = self._generate(text, show, with_adapter=True)
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": reply}]
        return reply

    def base_answer(self, text: str, show: Show) -> str:
        """What the base says in its place; arguments as in `answer`."""
        return self._generate(text, show, with_adapter=False)

    def _generate(self, text: str, show: Show, *, with_adapter: bool) -> str:
        tokenizer, model = self.tuned.base.processor, self.tuned.model
        if (template := self._encoder.template) is not None:
            text = template.render([*self.messages, {"role": "user", "content": text}], prompt=True, where="This chat")
        ids = torch.tensor([self._encoder.prompt_ids(text)], device=model.device)
        streamer = _streamer(tokenizer, show)
        options = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        with torch.no_grad(), quiet(), nullcontext() if with_adapter else model.disable_adapter():
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.most,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=_ends(tokenizer, model),
                streamer=streamer,
                **options,
            )
        return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))


def _ends(tokenizer: Any, model: Any) -> list[int]:
    """Tokens that end an answer: the model's own, and the tokenizer's."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({end for end in [*own, tokenizer.eos_token_id] if end is not None})


def _streamer(tokenizer: Any, show: Show) -> Any:
    class Shown(require("transformers", extra="hf").TextStreamer):  # type: ignore[misc]
        """Hands the text on as soon as a word is whole."""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            show(text)

    return Shown(tokenizer, skip_prompt=True, skip_special_tokens=True)
