"""Which layers to adapt by default: the architecture's usual ones, or all linear layers.

SmolLM2-135M is trained by ``lorate train`` under its default rule, from the same seeds and on the same batches, with
LoRA on ``q_proj`` and ``v_proj`` (PEFT's table for this architecture) at rank 8, on all linear layers at rank 8, and on
all linear layers at the rank that has about as many parameters as the first. Data: the 164 programming problems of
HumanEval, and one-turn chats from the Chit-Chat Challenge.

How to read it: ``gain`` is by how much the held-out loss ends below that of the first form after equally many steps, as
a part of it, with the standard error of the paired difference; ``time`` is the time of a step over that of the first
form. ``parameters`` are those that are trained.

Run: python benchmarks/targets.py
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from _record import record

from lorate.experiments.workloads.chat import conversations, turns
from lorate.jsonl import read_jsonl
from lorate.training import TrainConfig, train

COMMAND = "python benchmarks/targets.py"
FORMS: dict[str, dict[str, Any]] = {
    "usual r8": {"rank": 8, "alpha": 16.0},
    "all-linear r8": {"rank": 8, "alpha": 16.0, "targets": ["all-linear"]},
    "all-linear r1": {"rank": 1, "alpha": 2.0, "targets": ["all-linear"]},
}


def chats(file: Path, count: int = 200) -> str:
    """One-turn chats, as users have them."""
    pairs = [pair for one in conversations() if len(pair := turns(one)[:2]) == 2][:count]
    roles = ("user", "assistant")
    rows = [{"messages": [{"role": r, "content": text} for r, text in zip(roles, pair, strict=True)]} for pair in pairs]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for data in (None, chats(place / "chats.jsonl")):
            for seed in range(options.seeds):
                first: dict[str, Any] | None = None
                for form, own in FORMS.items():
                    name = "humaneval" if data is None else "chats"
                    row = measure(data, own, seed, options.steps, place / f"{name}-{seed}-{form}")
                    first = first or row
                    difference = first["losses"] - row["losses"]
                    rows.append(
                        {
                            "data": name,
                            "seed": seed,
                            "form": form,
                            "parameters": row["parameters"],
                            "loss": float(row["losses"].mean()),
                            "gain": float(difference.mean() / first["losses"].mean()),
                            "gain_se": float(difference.std() / len(difference) ** 0.5 / first["losses"].mean()),
                            "time": row["step"] / first["step"],
                        }
                    )
                    print(rows[-1], flush=True)
    summary = {
        f"{key} {form}": sum(values) / len(values)
        for form in list(FORMS)[1:]
        for key in ("gain", "time")
        if (values := [row[key] for row in rows if row["form"] == form])
    }
    record("targets", COMMAND, summary | {"steps": options.steps, "seeds": options.seeds}, rows=rows)


def measure(data: str | None, own: dict[str, Any], seed: int, steps: int, place: Path) -> dict[str, Any]:
    """One run: losses of the held-out examples after it, median time of a step."""
    config = TrainConfig(
        data=data, steps=steps, seed=seed, max_length=96, samples=0, eval_every=steps, eval_examples=24, keep="last",
        save_every=steps, **own,
    )  # fmt: skip
    outcome = train(config, place)
    seconds = torch.tensor([record["seconds"] for record in read_jsonl(place / "metrics.jsonl").records])
    losses = json.loads((place / "best" / f"step-{outcome.steps}" / "losses.json").read_text())
    parameters = outcome.run.read_run()["model"]["trainable"]
    return {"losses": torch.tensor(losses), "step": float(seconds.diff().median()), "parameters": parameters}


if __name__ == "__main__":
    main()
