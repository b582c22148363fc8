"""A run that has an adapter, loaded again: to evaluate, merge or talk to it."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lorate.errors import LorateError
from lorate.extras import require
from lorate.runs import RunDirectory
from lorate.tasks import (
    EncodedData,
    Encoder,
    LoadedData,
    RecordKind,
    cut_texts,
    load_data,
    load_model,
    quiet,
    text_limit,
)
from lorate.training.adapter import open_adapter, with_own_tokenizer
from lorate.training.adapter_files import adapter_folder
from lorate.training.config import TrainConfig
from lorate.training.evaluation import Change, Scores, evaluate, paired_change
from lorate.training.listener import Listener
from lorate.training.preparation import Prepared, check_positions, check_vocabulary, numbered_pairs, with_pairs
from lorate.training.processes import own_device
from lorate.training.trainers import build_trainer


@dataclass(frozen=True)
class Tuned:
    """A base model with the adapter of a run.

    Attributes:
        run: the run directory.
        config: its options.
        base: the base model with the run's tokenizer or image processor.
        model: the PEFT model.
        labels: of a classifier.
        kind: of the records that it was trained on; None for a run that does not say.
    """

    run: RunDirectory
    config: TrainConfig
    base: Any
    model: Any
    labels: list[str] | None
    kind: RecordKind | None = None


def load_tuned(
    path: str | Path, *, device: str | None = None, dtype: str | None = None, dequantize: bool = False
) -> Tuned:
    """Load the adapter of a run and the base that it was trained on.

    Args:
        path: the run directory.
        device: where to; the run's own or the usual one if not given.
        dtype: of the base weights; the run's own if not given.
        dequantize: write the weights of a quantised base out in ``dtype``: what was trained on, as plain weights.

    Raises:
        LorateError: there is no such run, it has no adapter, or its base is gone.
    """
    run = RunDirectory.open(path)
    folder = adapter_folder(str(run.path))
    options = run.read_config() | ({} if dtype is None else {"dtype": dtype})
    config = TrainConfig.from_mapping(options, source=str(run.config))
    data = run.read_run().get("data") or {}
    labels = data.get("labels")
    if config.task != "causal-lm" and not labels:
        raise LorateError(f"{run.run} names no classes, so its head cannot be rebuilt: train a new run.")
    base = load_model(
        config.model,
        config.task,
        labels=labels,
        dtype=getattr(torch, config.dtype),
        device=own_device(device or config.device),
        quantize=config.quantize,
        attention=config.attention,
    )
    if config.quantize and dequantize:
        with quiet():
            base = replace(base, model=base.model.dequantize().to(getattr(torch, config.dtype)))
    if config.task != "image-classification":
        base = with_own_tokenizer(base, folder)
    model = open_adapter(base, folder, trainable=False).eval()
    return Tuned(run, config, base, model, labels, data.get("kind"))


def evaluate_run(tuned: Tuned, data: str, listener: Listener) -> tuple[Change, Scores, Scores]:
    """Compare base and adapter on other data, all of whose records are used.

    Args:
        tuned: the run.
        data: as ``--data`` of ``lorate train``.
        listener: hears of progress, and of what is left out.

    Returns:
        How the loss changed, and the scores of base and adapter.

    Raises:
        LorateError: the data cannot be used.
    """
    config, base = tuned.config, tuned.base
    loaded = load_data(data, kind=config.task, eval_fraction=0.5, seed=0, columns=config.columns)
    records = require("datasets", extra="hf").concatenate_datasets([loaded.train, loaded.eval])
    if tuned.labels is not None:
        records = _with_labels(records, loaded, tuned.labels)
    if config.task != "image-classification":
        check_vocabulary(records, base.processor, base.model)
    whole = replace(loaded, train=records, eval=records, labels=tuned.labels)
    # the reference of preference records is the base, whatever the run went on from
    config = replace(config, eval_examples=len(records), packing=False, adapter=None)
    prepared = Prepared(config, whole, base, tuned.model, str(tuned.model.device))
    if prepared.judged == "pairs":
        config.check_kind(whole.record_kind)
        prepared = replace(prepared, data=numbered_pairs(config, whole, base))
    elif config.task == "causal-lm":
        encoder = Encoder(base.processor, whole.record_kind, config.train_on, config.max_length)
        part = encoder.encode(records, [*loaded.places[0], *loaded.places[1]])
        check_positions(base, config.max_length, part.counts.longest)
        prepared = replace(prepared, encoded=EncodedData(encoder, part, part))
    elif config.task == "sequence-classification":
        limit = text_limit(config.max_length, base.processor, base.model)
        prepared = replace(prepared, cut=cut_texts(records, base.processor, limit))
    with TemporaryDirectory() as place:
        trainer = build_trainer(prepared, Path(place))
        prepared = with_pairs(prepared, trainer)
        for note in prepared.notes:
            listener.notice(note)
        with tuned.model.disable_adapter():
            before = evaluate(trainer, prepared.judged, listener.progress)
        after = evaluate(trainer, prepared.judged, listener.progress)
    return paired_change(before.losses, after.losses), before, after


def _with_labels(records: Any, loaded: LoadedData, labels: list[str]) -> Any:
    """The records with the class numbers of the run."""
    strangers = [label for label in loaded.labels or [] if label not in labels]
    if strangers:
        raise LorateError(
            f"{loaded.name} has the class {strangers[0]!r}, and the run was trained on {', '.join(labels)}."
        )
    numbers = [labels.index(label) for label in loaded.labels or []]
    features = records.features.copy()
    features["label"] = require("datasets", extra="hf").ClassLabel(names=labels)
    with quiet():
        return records.map(lambda record: {"label": numbers[record["label"]]}, features=features)
