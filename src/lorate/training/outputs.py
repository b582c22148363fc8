"""The files for whoever uses the adapter: PEFT's own format, a model card, and how to load it."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lorate import ranks
from lorate.errors import LorateError
from lorate.rules import RULES
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.belongings import carry_over
from lorate.tasks import quiet
from lorate.training.config import CHANGES_BASE, TrainConfig
from lorate.training.preparation import Prepared

if TYPE_CHECKING:
    from lorate.training.ending import Outcome

_PEFT_CLASS = {
    "causal-lm": "PeftModelForCausalLM",
    "sequence-classification": "PeftModelForSequenceClassification",
    "image-classification": "PeftModel",
}


INITIAL = "initial"
"""Where the adapter of the start lies, if it took a part of the base with it."""


def save_adapter(prepared: Prepared, outcome: "Outcome") -> None:
    """Write ``adapter/`` whole or not at all: adapter, tokenizer or image processor, model card.

    Args:
        prepared: options, data and model.
        outcome: of the run whose directory gets it.

    Raises:
        LorateError: there is something else than a directory in its place.
    """
    run = outcome.run
    if run.adapter.exists() and not run.adapter.is_dir():
        raise LorateError(f"{run.adapter} is not a directory, and the adapter belongs there; move it away.")
    fresh = run.inside(".adapter.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _write_adapter(fresh, prepared, outcome)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    carry_over(run.adapter, fresh)
    shutil.rmtree(run.adapter, ignore_errors=True)
    fresh.rename(run.adapter)


def _write_adapter(fresh: Path, prepared: Prepared, outcome: "Outcome") -> None:
    # an initialisation that moved a part of the base into the adapter is taken out again: it fits the base as it is
    start = outcome.run.inside(INITIAL)
    moved = str(start) if prepared.config.init in CHANGES_BASE else None
    with quiet():
        # an embedding that was trained is among modules_to_save; there is nothing to look up on a hub
        prepared.model.save_pretrained(
            fresh,
            save_embedding_layers=False,
            selected_adapters=["default"],
            path_initial_model_for_weight_conversion=moved,
        )
        prepared.base.processor.save_pretrained(fresh)
    card = fresh / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else "---\nlibrary_name: peft\n---\n"
    write_atomically(card, text.rstrip() + "\n\n" + card_section(prepared, outcome))


def card_section(prepared: Prepared, outcome: "Outcome") -> str:
    """The part of the model card that lorate knows, in Markdown; see `save_adapter` for the arguments."""
    config, change = prepared.config, outcome.change
    lines = [
        "## Training with lorate",
        "",
        f"- Base model: `{prepared.base.name}`",
        f"- Data: `{prepared.data.name}`, {len(prepared.data.train)} training and {len(prepared.data.eval)} "
        "held-out records",
        f"- LoRA: rank {config.rank}, alpha {config.alpha:g}, dropout {config.dropout:g}",
        f"- Step size: rule `{config.rule}` with constant {config.resolved_lr:g}, {outcome.steps} steps of "
        f"{config.batch_size * config.accumulate * ranks.world_size()} samples, seed {config.seed}",
    ]
    if RULES[config.rule].average_exponent is not None:
        lines.append("- The adapter is an average over the steps so far, not the last one")
    if change is not None:
        lines.append(
            f"- Held-out loss: {change.before:.4f} before, {change.after:.4f} after ({change.relative:+.1%}; "
            f"difference {change.after - change.before:+.4f}, {change.certainty})"
        )
    lines += [
        f"- {name.replace('_', ' ').capitalize()} (held out): {before:.4g} before, {after:.4g} after"
        for name, (before, after) in (outcome.figures or {}).items()
    ]
    if outcome.chosen:
        lines.append(f"- {outcome.chosen.rstrip('.')}")
    return "\n".join(lines) + "\n"


def write_usage(run: RunDirectory, prepared: Prepared) -> None:
    """Write the run's README: load, use and merge the adapter, without lorate."""
    config = prepared.config
    peft_class = _PEFT_CLASS[config.task]
    sections: list[tuple[str, str]] = [
        ("Load", f"{prepared.base.load_snippet}{_own_tokenizer(prepared)}\n\n{_peft_lines(peft_class)}"),
        ("Use", _use_lines(config, prepared)),
        ("Merge into the base model", 'merged = model.merge_and_unload()\nmerged.save_pretrained("merged")'),
    ]
    body = "\n".join(f"## {title}\n\n```python\n{code}\n```\n" for title, code in sections)
    write_atomically(
        run.readme,
        f"# A LoRA adapter for {prepared.base.name}\n\n"
        "The adapter is in `adapter/`, in PEFT's format; lorate is not needed to use it. Run the lines below in this "
        f"directory.\n\n{body}\n"
        "`report.html` shows how the training went; `config.yaml` repeats it: "
        "`lorate train --config config.yaml --output another-run`.\n",
    )


def _peft_lines(peft_class: str) -> str:
    return f'from peft import {peft_class}\n\nmodel = {peft_class}.from_pretrained(model, "adapter")'


def _own_tokenizer(prepared: Prepared) -> str:
    """Lines for a tokenizer that is not the base's own any more."""
    config = prepared.config
    if not (config.chat_template or config.end_token or config.add_tokens or config.adapter):
        return ""
    lines = '\n\ntokenizer = AutoTokenizer.from_pretrained("adapter")'
    return lines + ("\nmodel.resize_token_embeddings(len(tokenizer))" if config.add_tokens else "")


def _use_lines(config: TrainConfig, prepared: Prepared) -> str:
    if config.task == "causal-lm" and prepared.data.record_kind in ("messages", "preference"):
        first = prepared.data.eval[0]
        turns = [turn["content"] for turn in first.get("messages") or first["prompt"] if turn["role"] == "user"]
        asked = str(turns[0])[:200] if turns else "Hello"
        return (
            f'messages = [{{"role": "user", "content": {asked!r}}}]\n'
            "inputs = tokenizer.apply_chat_template(\n"
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n)\n'
            'answer = model.generate(**inputs, max_new_tokens=50)[0, inputs["input_ids"].shape[1] :]\n'
            "print(tokenizer.decode(answer, skip_special_tokens=True))"
        )
    if config.task == "causal-lm":
        first = prepared.data.eval[0]
        prompt = first.get("prompt")
        text = prompt[:200] if isinstance(prompt, str) else "def fibonacci(n):"
        return (
            f'inputs = tokenizer({text!r}, return_tensors="pt")\n'
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))"
        )
    labels = repr(prepared.data.labels)
    if config.task == "sequence-classification":
        inputs = 'inputs = tokenizer("some text", return_tensors="pt")'
    else:
        inputs = 'from PIL import Image\n\ninputs = processor(Image.open("image.png"), return_tensors="pt")'
    return f"{inputs}\nlabels = {labels}\nprint(labels[model(**inputs).logits.argmax()])"
