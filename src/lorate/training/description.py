"""What ``run.json`` says about a run that begins, and whether a run that goes on is still the same one."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from lorate import ranks
from lorate.errors import LorateError
from lorate.rules import RULES
from lorate.runs import RunDirectory
from lorate.runs.description import FORMAT
from lorate.runs.facts import now, versions
from lorate.training.plan import make_plan
from lorate.training.preparation import Prepared

PACKAGES = ("torch", "numpy", "transformers", "peft", "accelerate", "trl", "datasets")


def describe(command: str, prepared: Prepared) -> dict[str, Any]:
    """The first entries of ``run.json``."""
    config = prepared.config
    plan, rule = make_plan(prepared), RULES[config.rule]
    return {
        "lorate": version("lorate"),
        "format": FORMAT,
        "command": command,
        "started": now(),
        "finished": None,
        "seconds": 0.0,
        "versions": versions(PACKAGES),
        "device": prepared.device,
        "processes": ranks.world_size(),
        "config": config.to_mapping(),
        "model": {
            "name": prepared.base.name,
            "kind": config.task,
            "parameters": plan.parameters,
            "trainable": plan.trainable,
        },
        "data": {
            "name": prepared.data.name,
            "train": plan.train_examples,
            "eval": plan.eval_examples,
            "labels": prepared.data.labels,
            "fingerprint": prepared.data.fingerprint,
            "format": prepared.data.format,
            "kind": prepared.data.record_kind,
            "notes": prepared.notes,
            **_counts(prepared),
        },
        "rule": {"name": rule.name, "lr": config.resolved_lr, "formula": rule.formula},
        "plan": asdict(plan),
        # which adapters are evaluated and saved
        "adapters": "averaged over the run" if rule.average_exponent is not None else "of the last step",
        "result": None,
    }


def _counts(prepared: Prepared) -> dict[str, Any]:
    """What became of the records of both parts, where they are tokens."""
    if prepared.encoded is None:
        return {}
    return {"counts": {"train": asdict(prepared.encoded.train.counts), "eval": asdict(prepared.encoded.eval.counts)}}


def check_same_data(run: RunDirectory, prepared: Prepared) -> None:
    """A run that goes on must see the records it began with.

    Raises:
        LorateError: they have changed since.
    """
    before, now_ = run.read_run().get("data") or {}, prepared.data
    if before.get("fingerprint") not in (None, now_.fingerprint):
        raise LorateError(
            f"The data {now_.name} have changed since the run began ({before.get('train')} training records then, "
            f"{len(now_.train)} now): put the earlier ones back, or train a new run."
        )
