"""What a run will train and need, before it starts."""

from dataclasses import dataclass
from typing import Any

from lorate import ranks
from lorate.adapters import find_pairs
from lorate.training.config import TrainConfig
from lorate.training.preparation import Prepared


@dataclass(frozen=True)
class Plan:
    """Figures for ``--dry-run`` and for the run directory.

    Attributes:
        parameters: of the whole model.
        trainable: of adapters and heads.
        adapted_layers: matrices with a LoRA pair.
        train_examples: records to train on; sequences, where the data are tokens, see `lorate.tasks.encoding.Counts`.
        eval_examples: held-out records that are evaluated.
        steps: of the run.
        epochs: passes over the training records that they make.
        samples_per_step: batch size times accumulation, times processes.
        tokens_per_step: tokens of a step at most, those of both answers of a pair; 0 without text.
        memory_bytes: rough estimate of a process' peak: weights, adapters with gradients, activations of one
            micro-batch.
        train_tokens: tokens of an epoch; 0 where the data are not tokens.
        learned_tokens: of these, those that count.
        format: the columns that were read, in words.
        learned: what of the tokens counts, in a word.
    """

    parameters: int
    trainable: int
    adapted_layers: int
    train_examples: int
    eval_examples: int
    steps: int
    epochs: float
    samples_per_step: int
    tokens_per_step: int
    memory_bytes: int
    train_tokens: int = 0
    learned_tokens: int = 0
    format: str = ""
    learned: str = ""


def make_plan(prepared: Prepared, processes: int | None = None) -> Plan:
    """Count parameters, tokens and bytes.

    Args:
        prepared: options, data and model.
        processes: how many train together; those that are here if not given.
    """
    config = prepared.config
    parameters = list(prepared.model.parameters())
    trainable = [p for p in parameters if p.requires_grad]
    samples = config.batch_size * config.accumulate * (processes or ranks.world_size())
    text = config.task != "image-classification"
    sequences = 2 if prepared.judged == "pairs" else 1  # of a sample: the model reads the prompt with each answer
    return Plan(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in trainable),
        adapted_layers=len(find_pairs(prepared.model)),
        train_examples=len(prepared.encoded.train.rows if prepared.encoded else prepared.data.train),
        eval_examples=min(len(prepared.data.eval), config.eval_examples),
        steps=config.step_count,
        epochs=config.step_count * min(samples, prepared.examples) / prepared.examples,
        samples_per_step=samples,
        tokens_per_step=samples * sequences * config.max_length if text else 0,
        memory_bytes=sum(p.numel() * p.element_size() for p in parameters)
        + sum(p.numel() * p.element_size() for p in trainable)
        + (_activation_bytes(config, prepared.base.model, sequences, prepared.device) if text else 0),
        train_tokens=prepared.encoded.train.counts.tokens if prepared.encoded else 0,
        format=prepared.data.format,
        learned="preferences" if prepared.judged == "pairs" else config.train_on,
        learned_tokens=prepared.encoded.train.counts.learned if prepared.encoded else 0,
    )


def is_full_batch(config: TrainConfig, records: int) -> bool:
    """Whether every step sees every record once, so that the run can be certified."""
    samples = config.batch_size * config.accumulate * ranks.world_size()
    return samples == records or (samples == config.batch_size and samples >= records)


def _activation_bytes(config: TrainConfig, model: Any, sequences: int, device: str) -> int:
    """Activations that a transformer keeps for the backward pass of one micro-batch, about.

    A block keeps some 16 values of hidden width a token (attention and its projections, the MLP's inner ones, norms);
    the output is computed by TRL's kernel in tiles of 4,096 tokens and 32,768 entries of the vocabulary at most, one
    after another: in place on a GPU, with about eight copies in float32 on a CPU. The pass of DPO's reference keeps
    nothing for the backward pass, and is over before that needs the same tile: it does not raise the peak.
    """
    sizes = model.config.get_text_config()
    tokens = config.batch_size * sequences * config.max_length
    hidden = int(getattr(sizes, "hidden_size", 0))
    blocks = int(getattr(sizes, "num_hidden_layers", 0))
    vocabulary = int(getattr(sizes, "vocab_size", 0)) if config.task == "causal-lm" else 0
    width = 4 if config.dtype == "float32" else 2
    tile = min(tokens, 4096) * min(vocabulary, 32768) * (width if device.startswith(("cuda", "xpu")) else 8 * 4)
    return tokens * 16 * hidden * blocks * width + tile
