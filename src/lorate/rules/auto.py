"""The rule without a learning rate, as far as a table of rules needs it."""

from lorate.measurement import Measurement
from lorate.rules.rule import Rule, StepSizes


class Auto(Rule):
    r"""The step at which the loss stops falling along D on batches that D has not seen.

    $$ \log\eta \leftarrow \log\eta - \kappa_t\,\mathrm{clip}\left(\frac{q}{\max(L\|\Delta W\|^2, R)}, -1, 1\right) $$

    with the last displacement $\Delta W$ of the weights, the slope q at its end on the next batch, its root mean square
    R over the last ten steps or so, and L from probes.
    It looks back at its own steps, so `lorate.optim.auto.LoraAuto` does the work.

    Source: docs/auto.md.
    """

    name = "auto"
    formula = "log η −= κ·clip(q / max(L‖ΔW‖², rms q), ±1)"
    guarantee = "none; in balance the mean slope at the end of its steps is zero on unseen batches"
    use_when = "mini-batch training without a learning rate to choose; around AdamW or any torch optimizer"
    needs = frozenset({"loss"})
    averages = True

    def step_sizes(self, measurement: Measurement) -> StepSizes:
        """Not a function of one measurement.

        Raises:
            TypeError: always.
        """
        raise TypeError("rule 'auto' looks back at its steps: build it with lorate.create_optimizer(model, 'auto')")
