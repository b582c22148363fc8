"""One experiment of PEFT's method comparison, with lorate's optimizer or with the experiment's own, in pieces.

The comparison trains on MetaMathQA and counts right answers on GSM8K. Data, batches, generation and the marking of
answers are its own functions, imported from a checkout of PEFT; this file has the loop, since the comparison's own
cannot stop and go on. With ``--rule`` lorate's optimizer takes the steps: no clipping, no schedule, and the averaged
adapters are in the model whenever answers are generated. Without it the experiment runs as it is configured there.

Exit codes: 0 the result is written, 75 the time is up and the same command goes on, 1 it cannot.

Run: python benchmarks/peft_comparison/compare.py PEFT/method_comparison/MetaMathQA lora/llama-3.2-3B-rank32 --rule auto
"""

import argparse
import importlib
import itertools
import json
import math
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup, set_seed

import lorate
from lorate.runs import write_atomically

TIME_IS_UP = 75  # EX_TEMPFAIL
BUCKET_FACTOR = 20  # batches of a bucket, as in the comparison's run.py
WARMUP = 0.1  # of all steps, as in its utils.py
DEFAULTS = {"optimizer_type": "AdamW", "grad_norm_clip": 1.0, "lr_scheduler": "cosine", "use_amp": False}
WIKI_LENGTH = 768


class Harness:
    """The functions of a checkout that are used, and its files of options."""

    def __init__(self, folder: Path, experiment: str) -> None:
        self.place = folder / "experiments" / experiment
        for file in (folder / "default_training_params.json", self.place / "adapter_config.json"):
            if not file.is_file():
                sys.exit(f"expected a checkout's method_comparison/MetaMathQA and one of its experiments; no {file}")
        sys.path.insert(0, str(folder))
        try:
            data, utils, run = (importlib.import_module(name) for name in ("data", "utils", "run"))
        except (ImportError, RuntimeError) as error:  # a package that is missing, or no GPU
            sys.exit(f"the functions in {folder} cannot be used here: {error}")
        self.datasets, self.wiki = data.get_train_valid_test_datasets, getattr(data, "get_wiki_small", None)
        self.batches, self.accuracy = utils.BucketIterator, utils.get_accuracy
        self.answers, self.token_loss = run.evaluate, run.calculate_mean_per_token_loss
        files = (folder / "default_training_params.json", self.place / "training_params.json")
        given = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
        self.options: dict[str, Any] = {name: value for part in (DEFAULTS, *given) for name, value in part.items()}
        unknown = {"compile": False, "use_gc": False, "use_amp": False, "init_kv_cache_prefix": None}
        for name, only in unknown.items():
            if self.options.get(name, only) != only:
                sys.exit(f"{experiment} sets {name}, which this script does not do")


class Comparison:
    """A run: model, optimizer, and how far it is."""

    def __init__(self, harness: Harness, rule: str | None, output: Path) -> None:
        self.harness, self.options, self.output = harness, dict(harness.options), output
        if rule is not None:
            self.options |= {"optimizer_type": f"lorate {rule}", "optimizer_kwargs": {}, "grad_norm_clip": 0.0}
            self.options["lr_scheduler"] = None
        set_seed(self.options["seed"])
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(self.options["model_id"])
        self.tokenizer.model_max_length = self.options["max_seq_length"]
        if not self.tokenizer.pad_token:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        base = AutoModelForCausalLM.from_pretrained(
            self.options["model_id"],
            dtype=getattr(torch, self.options["dtype"]),
            attn_implementation=self.options["attn_implementation"],
        )
        self.peft_config = peft.PeftConfig.from_pretrained(str(harness.place))
        self.model: Any = peft.get_peft_model(
            base.to(self.device), self.peft_config, autocast_adapter_dtype=self.options["autocast_adapter_dtype"]
        )
        self.optimizer, self.scheduler = self._optimizer(rule)
        self.train_set, self.valid_set, self.test_set = harness.datasets(
            tokenizer=self.tokenizer, query_template=self.options["query_template"], print_fn=print
        )
        self.state: dict[str, Any] = {
            "settings": json.dumps(self.options, sort_keys=True), "step": 0, "losses": [], "metrics": [], "samples": 0,
            "tokens": 0, "train_time": 0.0, "predictions": [], "wiki_before": None,
        }  # fmt: skip

    def _optimizer(self, rule: str | None) -> tuple[torch.optim.Optimizer, Any]:
        if rule is not None:
            return lorate.create_optimizer(self.model, rule), None
        kind = getattr(torch.optim, self.options["optimizer_type"], None)
        if kind is None:
            sys.exit(f"optimizer_type {self.options['optimizer_type']!r} is not one of torch's; run it there")
        optimizer = kind(self.model.parameters(), **self.options["optimizer_kwargs"])
        if self.options["lr_scheduler"] is None:
            return optimizer, None
        steps = self.options["max_steps"]
        return optimizer, get_cosine_schedule_with_warmup(optimizer, int(WARMUP * steps), steps)

    def averaged(self) -> AbstractContextManager[None]:
        """The adapters that the run would end with, in evaluation mode."""
        self.model.eval()
        return self.optimizer.averaged() if isinstance(self.optimizer, lorate.LoraOptimizer) else nullcontext()

    def step(self, rows: dict[str, list[Any]]) -> None:
        """One training step; of the padding, which is EOS, only the first token is learned."""
        began = time.perf_counter()
        lengths = torch.tensor([len(row) for row in rows["input_ids"]])
        batch = self.tokenizer.pad(rows, return_tensors="pt", padding_side="right")
        beyond = torch.arange(batch["input_ids"].shape[1]) > lengths[:, None]
        batch["labels"] = batch["input_ids"].masked_fill(beyond, -100)
        count = int(batch["attention_mask"].sum())
        self.optimizer.zero_grad()
        loss = self.model(**batch.to(self.device), num_items_in_batch=count).loss
        loss.backward()
        if self.options["grad_norm_clip"]:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options["grad_norm_clip"])
        if isinstance(self.optimizer, lorate.LoraOptimizer):
            self.optimizer.step(loss=loss)
        else:
            self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.state["losses"].append(loss.item())
        self.state["step"] += 1
        self.state["samples"] += len(lengths)
        self.state["tokens"] += int(lengths.sum()) + len(lengths)
        self.state["train_time"] += time.perf_counter() - began

    def generate(self, rows: Any) -> tuple[list[str], list[str]]:
        """Answers and right answers."""
        size, options = self.options["batch_size_eval"], dict(self.options["generation_kwargs"])
        return self.harness.answers(
            model=self.model, tokenizer=self.tokenizer, ds=rows, batch_size=size, generate_kwargs=options
        )

    def wiki_loss(self) -> float | None:
        """Mean loss on Wikipedia, whose change tells what was forgotten; None in a checkout without it."""
        if self.harness.wiki is None:
            return None
        return self.harness.token_loss(
            model=self.model, tokenizer=self.tokenizer, rows=self.harness.wiki(),
            batch_size=self.options["batch_size"], max_length=WIKI_LENGTH,
        )  # fmt: skip

    def train(self, deadline: float) -> bool:
        """Take steps until all are taken, or the time is up; whether all are."""
        batches = self.harness.batches(
            self.train_set, batch_size=self.options["batch_size"], bucket_factor=BUCKET_FACTOR, delete_cols=["response"]
        )
        every, last = self.options["eval_steps"], self.options["max_steps"]
        self.model.train()
        for rows in itertools.islice(iter(batches), self.state["step"], last):
            self.step(dict(rows))
            if self.state["step"] % every == 0:
                with self.averaged():
                    accuracy = self.harness.accuracy(**dict(zip(("predictions", "responses"), self.generate(
                        self.valid_set), strict=True)))  # fmt: skip
                self.model.train()
                self._note({"valid accuracy": accuracy})
            if time.monotonic() > deadline:
                break
        if self.state["step"] < last and time.monotonic() <= deadline:
            sys.exit(f"the data end after {self.state['step']} steps, and {last} are asked for")
        return self.state["step"] >= last

    def _note(self, entry: dict[str, Any]) -> None:
        losses, every = self.state["losses"], self.options["eval_steps"]
        mean = math.fsum(losses[-every:]) / len(losses[-every:])
        entry = {"step": self.state["step"], **entry, "train loss": mean, "train samples": self.state["samples"]}
        self.state["metrics"].append(entry)
        print(json.dumps(entry), flush=True)

    def test(self, deadline: float) -> bool:
        """Answer the test questions until all are answered, or the time is up; whether all are."""
        done, size = self.state["predictions"], self.options["batch_size_eval"]
        with self.averaged():
            while len(done) < len(self.test_set):
                rows = self.test_set.select(range(len(done), min(len(done) + size, len(self.test_set))))
                predictions, right = self.generate(rows)
                done += [list(pair) for pair in zip(predictions, right, strict=True)]
                print(f"{len(done)} of {len(self.test_set)} test questions answered", flush=True)
                if time.monotonic() > deadline and len(done) < len(self.test_set):
                    return False
            after = self.wiki_loss()
        accuracy = self.harness.accuracy(
            predictions=[prediction for prediction, _ in done], responses=[right for _, right in done]
        )
        forgetting = None if after is None else after - self.state["wiki_before"]
        self._note({"test accuracy": accuracy, "train total tokens": self.state["tokens"], "forgetting": forgetting})
        return True

    def load(self) -> None:
        """Go on from the state file, or measure what the untrained model knows."""
        file = self.output / "state.pt"
        if not file.exists():
            self.model.eval()
            self.state["wiki_before"] = self.wiki_loss()
            return
        saved = torch.load(file, map_location=self.device, weights_only=True)
        if saved["state"]["settings"] != self.state["settings"]:
            sys.exit(f"{self.output} holds another run; give another --output")
        self.state = saved["state"]
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(saved["adapters"][name])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(saved["scheduler"])
        torch.set_rng_state(saved["rng"].cpu())
        if saved["cuda_rng"] is not None:
            torch.cuda.set_rng_state(saved["cuda_rng"].cpu())

    def save(self) -> None:
        """Write the state file, whole or not at all."""
        adapters = {name: one.detach() for name, one in self.model.named_parameters() if one.requires_grad}
        content = {
            "state": self.state, "adapters": adapters, "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state() if self.device == "cuda" else None,
        }  # fmt: skip
        torch.save(content, self.output / "state.part")
        os.replace(self.output / "state.part", self.output / "state.pt")

    def result(self, experiment: str) -> dict[str, Any]:
        """What the comparison's own results hold, as far as it is measured here."""
        trainable, total = self.model.get_nb_trainable_parameters()
        return {
            "run_info": {"experiment_name": experiment, "train_config": self.options,
                         "peft_config": json.loads((self.harness.place / "adapter_config.json").read_text())},
            "train_info": {"train_time": self.state["train_time"], "num_trainable_params": trainable,
                           "num_total_params": total, "status": "success", "metrics": self.state["metrics"]},
            "meta_info": {"package_info": {name: version(name) for name in ("lorate", "torch", "transformers", "peft")},
                          "accelerator": torch.cuda.get_device_name() if self.device == "cuda" else None},
        }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Do a piece; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("harness", type=Path, help="method_comparison/MetaMathQA of a checkout of PEFT")
    parser.add_argument("experiment", help="a folder of its experiments, such as lora/llama-3.2-3B-rank32")
    parser.add_argument("--rule", help="lorate's rule, such as auto (default: the experiment's own optimizer)")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="time before it saves and stops (default %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for state and result (default: runs/peft-comparison/EXPERIMENT-RULE, or -own)",
    )
    given = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * given.minutes
    name = f"{given.experiment.strip('/').replace('/', '-')}-{given.rule or 'own'}"
    output: Path = given.output or Path("runs/peft-comparison") / name
    if (output / "result.json").exists():
        print(f"{output / 'result.json'} is there already.")
        return 0
    output.mkdir(parents=True, exist_ok=True)
    run = Comparison(Harness(given.harness.expanduser().resolve(), given.experiment), given.rule, output)
    run.load()
    if not (run.train(deadline) and run.test(deadline)):
        run.save()
        steps, answered = run.state["step"], len(run.state["predictions"])
        print(f"The time is up after {steps} steps and {answered} test questions: run the same command again.")
        return TIME_IS_UP
    write_atomically(output / "result.json", json.dumps(run.result(given.experiment), indent=2) + "\n")
    print(f"Wrote {output / 'result.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
