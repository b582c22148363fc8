"""Training all weights against LoRA at several ranks: loss per step, per second, per operation, and memory."""

from collections.abc import Sequence

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results
from lorate_papers.experiments.full_vs_lora import work
from lorate_papers.experiments.full_vs_lora.claims import decide
from lorate_papers.experiments.full_vs_lora.figures import draw
from lorate_papers.experiments.full_vs_lora.settings import TASKS, VARIANTS, grid, run_name, seeds, size


class FullVsLoraExperiment:
    """Runs, figures and claims of the comparison."""

    title = "All weights or LoRA"
    summary = (
        "A byte-level language model that has read chat learns Python code, and a residual network that knows the "
        "digits 0 to 4 learns 5 to 9. AdamW trains all weights, or LoRA on every linear layer or convolution with "
        "ranks 1, 4 and 16 and scaling 2; learning rates are tuned on grids of one size. Same data, same order, same "
        "steps."
    )
    takes = ()

    def runs(self, options: Options) -> Sequence[Run]:
        """The slow ones first."""
        how = size(options)
        runs = []
        for task, batch in TASKS.items():
            common = {"task": task, "batch": batch, "quick": options.quick}
            for variant, adapter in VARIANTS.items():
                given = {
                    "adapter": adapter,
                    "grid": grid(adapter, options),
                    "seeds": seeds(options),
                    "steps": how.steps,
                }
                runs.append(Run(run_name(task, variant), work.tuned_variant, {**common, **given}))
            runs.append(Run(f"memory-{task}", work.memory, common))
        return runs

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


EXPERIMENT = FullVsLoraExperiment()
