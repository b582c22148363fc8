"""The files for whoever uses the adapter: PEFT's own format, a model card, and how to load it."""

import shutil
from pathlib import Path

from lorate import ranks
from lorate.errors import LorateError
from lorate.rules import RULES
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.belongings import carry_over
from lorate.tasks import quiet
from lorate.training.config import TrainConfig
from lorate.training.evaluation import Change
from lorate.training.preparation import Prepared

_PEFT_CLASS = {
    "causal-lm": "PeftModelForCausalLM",
    "sequence-classification": "PeftModelForSequenceClassification",
    "image-classification": "PeftModel",
}


def save_adapter(run: RunDirectory, config: TrainConfig, prepared: Prepared, steps: int, change: Change | None) -> None:
    """Write ``adapter/`` whole or not at all: adapter, tokenizer or image processor, model card.

    Args:
        run: gets the directory.
        config: the options.
        prepared: data and model.
        steps: steps that were done; fewer than in the options after an interruption or an alarm.
        change: held-out loss before and after, if it was measured.

    Raises:
        LorateError: there is something else than a directory in its place.
    """
    if run.adapter.exists() and not run.adapter.is_dir():
        raise LorateError(f"{run.adapter} is not a directory, and the adapter belongs there; move it away.")
    fresh = run.inside(".adapter.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _write_adapter(fresh, config, prepared, steps, change)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    carry_over(run.adapter, fresh)
    shutil.rmtree(run.adapter, ignore_errors=True)
    fresh.rename(run.adapter)


def _write_adapter(fresh: Path, config: TrainConfig, prepared: Prepared, steps: int, change: Change | None) -> None:
    with quiet():
        # embeddings are never resized here, so there is nothing to look up on a hub and nothing more to save
        prepared.model.save_pretrained(fresh, save_embedding_layers=False)
        prepared.base.processor.save_pretrained(fresh)
    card = fresh / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else "---\nlibrary_name: peft\n---\n"
    write_atomically(card, text.rstrip() + "\n\n" + card_section(config, prepared, steps, change))


def card_section(config: TrainConfig, prepared: Prepared, steps: int, change: Change | None) -> str:
    """The part of the model card that lorate knows, in Markdown; see `save_adapter` for the arguments."""
    lines = [
        "## Training with lorate",
        "",
        f"- Base model: `{prepared.base.name}`",
        f"- Data: `{prepared.data.name}`, {len(prepared.data.train)} training and {len(prepared.data.eval)} "
        "held-out records",
        f"- LoRA: rank {config.rank}, alpha {config.alpha:g}, dropout {config.dropout:g}",
        f"- Step size: rule `{config.rule}` with constant {config.resolved_lr:g}, {steps} steps of "
        f"{config.batch_size * config.accumulate * ranks.world_size()} samples, seed {config.seed}",
    ]
    if RULES[config.rule].averages:
        lines.append("- The adapter is an average over the run's steps, not the last one")
    if change is not None:
        lines.append(
            f"- Held-out loss: {change.before:.4f} before, {change.after:.4f} after ({change.relative:+.1%}; "
            f"difference {change.after - change.before:+.4f}, {change.certainty})"
        )
    return "\n".join(lines) + "\n"


def write_usage(run: RunDirectory, config: TrainConfig, prepared: Prepared) -> None:
    """Write the run's README: load, use and merge the adapter, without lorate."""
    peft_class = _PEFT_CLASS[config.task]
    sections: list[tuple[str, str]] = [
        ("Load", f"{prepared.base.load_snippet}\n\n{_peft_lines(peft_class)}"),
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


def _use_lines(config: TrainConfig, prepared: Prepared) -> str:
    if config.task == "causal-lm":
        return (
            'inputs = tokenizer("def fibonacci(n):", return_tensors="pt")\n'
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))"
        )
    labels = repr(prepared.data.labels)
    if config.task == "sequence-classification":
        inputs = 'inputs = tokenizer("some text", return_tensors="pt")'
    else:
        inputs = 'from PIL import Image\n\ninputs = processor(Image.open("image.png"), return_tensors="pt")'
    return f"{inputs}\nlabels = {labels}\nprint(labels[model(**inputs).logits.argmax()])"
