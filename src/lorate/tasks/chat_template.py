"""What of a conversation is learned, found by rendering the model's chat template turn by turn.

A template is a program that comes with the model; few mark what the assistant says. But every one can be asked for a
conversation up to the moment where an answer is due, and for the same conversation with the answer: the answer is what
comes in between. Most templates only append, so that one text holds all answers. Some rewrite what was said before
(those of reasoning models strip the thoughts of earlier answers): then each answer gets a text of its own, which is
what the model sees when that answer is due.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lorate.errors import LorateError
from lorate.runs.reading import LARGEST
from lorate.tasks.kinds import TrainOn
from lorate.tasks.model_limits import TEMPLATE_SECONDS, within

Message = dict[str, Any]
_QUESTION, _ANSWER = "q7Kz", "x9Vw"  # nothing that a template would write of its own


@dataclass
class Rendered:
    """A text for the model.

    Attributes:
        text: with all markup, the mark of its beginning included.
        learned: the parts of it that count, from and to which character.
    """

    text: str
    learned: list[tuple[int, int]] = field(default_factory=list)


class ChatTemplate:
    """The chat template of a tokenizer.

    Args:
        tokenizer: of the model.

    Raises:
        LorateError: it has no chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise LorateError(
                "The data holds chats, or instructions or questions with answers, which become chats, but the model's "
                "tokenizer has no chat template: use an instruct model, or name the two columns prompt and completion."
            )
        self._tokenizer = tokenizer
        self._name = tokenizer.name_or_path
        marks = {*tokenizer.all_special_tokens}
        marks |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._marks = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or r"(?!)")
        self._end = self._end_mark()
        self._prefilled: str | None = None  # what the template begins an answer with, and the data do not

    def render(self, turns: Sequence[Message], tools: Any = None, *, prompt: bool = False, where: str = "") -> str:
        """The conversation as one text; with ``prompt`` up to where the assistant's next answer is due.

        Raises:
            LorateError: the template refuses the conversation.
        """
        plain = [{key: value for key, value in turn.items() if key != "weight"} for turn in turns]
        try:
            return self._apply(plain, tools, prompt)
        except LorateError:
            raise
        except Exception as error:  # whatever a template can do wrong
            as_text = _with_arguments_as_text(plain)
            if as_text is not None:
                try:
                    return self._apply(as_text, tools, prompt)
                except Exception as second:  # of the two, the first says more
                    error.add_note(str(second))
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise LorateError(
                f"{where + ': the' if where else 'The'} chat template of {self._name} refuses the conversation that "
                f"begins with {str(turns[0]['content'])[:40]!r} ({reason}): change the conversation, or use another "
                "model."
            ) from error

    def rendered(self, turns: Sequence[Message], tools: Any, train_on: TrainOn, where: str) -> list[Rendered]:
        """The texts to train on, with the parts that count.

        Args:
            turns: the messages; answers of weight 0 are not learned.
            tools: descriptions of tools, or None.
            train_on: ``answers``, the ``last`` one, or ``all`` of the conversation.
            where: file and line, for errors.

        Returns:
            One text with all answers where the template only appends, else one for each answer that it rewrites
            later; none if there is no answer to learn. An answer is learned with the mark that ends it.

        Raises:
            LorateError: the template refuses the conversation, or leaves an answer, thoughts or tool calls out.
        """
        answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant" and i > 0]
        if train_on == "all":
            return self._all(turns, tools, [i for i in answers if turns[i].get("weight") == 0], where)
        answers = [i for i in (answers[-1:] if train_on == "last" else answers) if turns[i].get("weight") != 0]
        texts: list[Rendered] = []
        for i in reversed(answers):
            text, start = self._answer(turns[: i + 1], tools, where)
            if texts and texts[-1].text.startswith(text):
                texts[-1].learned.insert(0, (start, len(text)))
            else:
                texts.append(Rendered(text, [(start, len(text))]))
        return texts[::-1]

    def prompt(self, turns: Sequence[Message], tools: Any) -> str:
        """What the model is given when the last answer that is learned is due; empty if there is none."""
        learned = [
            i for i, turn in enumerate(turns) if turn["role"] == "assistant" and turn.get("weight") != 0 and i > 0
        ]
        return self.render(turns[: learned[-1]], tools, prompt=True) if learned else ""

    def _all(self, turns: Sequence[Message], tools: Any, silent: list[int], where: str) -> list[Rendered]:
        whole = self.render(turns, tools, where=where)
        result = Rendered(whole)
        begin = 0
        for i in silent:
            text, start = self._answer(turns[: i + 1], tools, where)
            if not whole.startswith(text):
                raise LorateError(
                    f"{where}: the chat template of {self._name} rewrites earlier answers, so that what has weight 0 "
                    "cannot be found in the whole: use --train-on answers."
                )
            result.learned.append((begin, start))
            begin = len(text)
        result.learned.append((begin, len(whole)))
        return [result]

    def _answer(self, turns: Sequence[Message], tools: Any, where: str) -> tuple[str, int]:
        """The conversation up to the end mark of its last answer, and where that answer begins."""
        prompt = self.render(turns[:-1], tools, prompt=True, where=where)
        whole = self.render(turns, tools, where=where)
        if not whole.startswith(prompt) and (answer := _behind(turns[-2]["content"], prompt, whole)) is not None:
            whole = prompt + answer  # before the question something else is written once it is answered
        start = len(prompt)
        if not whole.startswith(prompt):
            start = _common(prompt, whole)
            extra, content = prompt[start:].strip(), turns[-1]["content"].lstrip()
            if extra and content.startswith(extra):
                # given as the beginning of the answer, and left out where the answer is over, as R1's <think>
                said = content[len(extra) :].lstrip("\n").rstrip()
                return prompt + said + (self._end or ""), len(prompt)
            before = self.render(turns[:-1], tools, where=where)
            if start < len(prompt[: _common(before, prompt)].rstrip()):
                raise LorateError(
                    f"{where}: the chat template of {self._name} writes the question in another way once it is "
                    "answered, so the answer cannot be found in it: use another model or template."
                )
            self._prefilled = self._prefilled or extra or None
        text = whole[: self._end_of(whole, start)]
        self._check_said(turns[-1], text[start:], where)
        return text, start

    def _end_of(self, text: str, start: int) -> int:
        """Where an answer ends: after the last mark that ends answers, or else after the last mark."""
        if self._end and (found := text.rfind(self._end, start)) >= 0:
            return found + len(self._end)
        last = max((match.end() for match in self._marks.finditer(text, start)), default=0)
        return last or max(start, len(text.rstrip()))

    def _end_mark(self) -> str | None:
        """What the template writes behind an answer: its first special token, or None."""
        turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
        try:
            _, found, behind = self._apply(turns, None, False).rpartition(_ANSWER)
        except LorateError:
            raise
        except Exception:  # a template that wants more than that
            return str(self._tokenizer.eos_token) if self._tokenizer.eos_token else None
        mark = self._marks.search(behind) if found else None
        return mark[0] if mark else None

    def notes(self) -> list[str]:
        """What a reader should know of the conversations that were rendered, in sentences."""
        notes = []
        if self._prefilled:
            notes.append(
                f"The model's chat template begins each answer with {self._prefilled!r} when it asks, and the answers "
                "of the data do not: they are learned without it."
            )
        if not self._end:
            notes.append(
                "The model's chat template ends an answer without a token of its own: where to stop is not learned."
            )
        return notes

    def _check_said(self, turn: Message, said: str, where: str) -> None:
        """What the assistant says must be in what is learned."""
        thoughts, closed, answer = turn["content"].rpartition("</think>")
        parts = [("the answer", answer)]
        if closed:
            parts.append(("the answer's thoughts (<think>)", thoughts.rpartition("<think>")[2]))
        parts += [(key, turn[key]) for key in ("reasoning_content", "thinking") if key in turn]
        parts += [("a tool call", call["function"]["name"]) for call in turn.get("tool_calls", [])]
        for what, text in parts:
            if text.strip() and text.strip() not in said:
                raise LorateError(
                    f"{where}: the chat template of {self._name} leaves out {what} {text.strip()[:40]!r}, so it would "
                    "not be learned: use a model or template that knows it, or take it out of the data."
                )

    def _apply(self, turns: Sequence[Message], tools: Any, prompt: bool) -> str:
        with within(TEMPLATE_SECONDS, f"The chat template of {self._name}"):
            text = self._tokenizer.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=prompt)
        if len(text) > LARGEST:
            raise LorateError(f"The chat template of {self._name} makes {len(text):,} characters.")
        return str(text)


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    size = min(len(one), len(other))
    return next((i for i in range(size) if one[i] != other[i]), size)


def _behind(question: str, prompt: str, whole: str) -> str | None:
    """What the text with the answer has behind the prompt's own end, from the last question on; None if they differ."""
    asked, answered = prompt.rfind(question.strip()), whole.rfind(question.strip())
    if not question.strip() or min(asked, answered) < 0:
        return None
    ours, theirs = prompt[asked:], whole[answered:]
    return theirs[len(ours) :] if theirs.startswith(ours) else None


def _with_arguments_as_text(turns: Sequence[Message]) -> list[Message] | None:
    """The same with the arguments of tool calls as JSON in a string, which some templates want; None without calls."""
    if not any("tool_calls" in turn for turn in turns):
        return None
    result = []
    for turn in turns:
        calls = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                },
            }
            for call in turn.get("tool_calls", [])
        ]
        result.append(turn | ({"tool_calls": calls} if calls else {}))
    return result
