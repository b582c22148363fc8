"""Language models: the paper's rules against a constant rate, AdamW and ``auto``, from two starts of A."""

from collections.abc import Sequence
from typing import Any

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results
from lorate_papers.experiments.llm import work
from lorate_papers.experiments.llm.claims import decide
from lorate_papers.experiments.llm.figures import draw
from lorate_papers.experiments.llm.settings import RULES, STARTS, grid, run_name, seeds, size


class LlmExperiment:
    """Runs, figures and claims of the language models."""

    title = "Language models from a small and a large start"
    summary = (
        "LoRA of rank 8 and scaling 1 on all linear layers of a byte-level Llama that has read chat and is to learn "
        "Python code (HumanEval), in mini-batches. A starts with standard deviation 1e-3 or 1/r, B with 0. Each rule's "
        "constant is tuned for each start with as many tries; the winners are repeated with other seeds, and run "
        "with the same constants for a few steps on a real model, SmolLM2-135M with adapters where PEFT puts them, "
        "which the quick form leaves out unless --model names one."
    )
    takes = ("data", "model")

    def runs(self, options: Options) -> Sequence[Run]:
        """One for each rule and start; the short ones last."""
        how = size(options)
        steps = how.large_steps or (3 if options.model is not None else 0)
        given: dict[str, Any] = {
            "seeds": seeds(options),
            "small": {"steps": how.steps, "batch": how.batch, "validate_every": how.every},
            "large": {"steps": steps, "batch": how.large_batch, "validate_every": steps or None},
            "finer": how.finer,
            "quick": options.quick,
        }
        given |= {"data": options.data} if options.data is not None else {}
        given |= {"model": options.model} if options.model is not None else {}
        return [
            Run(
                run_name(rule, start),
                work.tuned_and_carried_over,
                {"rule": rule, "grid": grid(rule, options), "start": start, **given},
            )
            for rule in RULES
            for start in STARTS
        ]

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


EXPERIMENT = LlmExperiment()
