"""The last move, seen from its end with the batch of this step."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lorate import ranks
from lorate.errors import LorateError
from lorate.measurement import Array
from lorate.optim.evaluation import Batch
from lorate.optim.layout import Slot
from lorate.optim.move import Move
from lorate.optim.replay import without_trace


class LookBack:
    r"""The last move as `lorate.rules.LastLine` describes it to a rule.

    Args:
        rule: name of the rule, for errors.
        move: the last one.
        slots: the parameters.
        batch: of this step.
        take_back: undoes the move for good.
    """

    def __init__(
        self, rule: str, move: Move, slots: Sequence[Slot], batch: Batch, take_back: Callable[[], None]
    ) -> None:
        self.multiplier = move.multiplier
        self.end_slope = self.average_slope = float("nan")  # until they are read
        self.is_repeatable = batch.replay is not None
        self.take_back = take_back
        self._rule, self._move, self._slots, self._batch = rule, move, slots, batch

    def read(self, pieces: Mapping[str, Array]) -> None:
        """Take in what `Move.pieces` gave, once it is on the host."""
        self.end_slope = float(pieces["end slope"].sum())
        self.average_slope = float(pieces["average slope"].sum())

    def loss_before(self, share: float = 1.0) -> float:
        """The loss of this step's batch with a share of the move taken back, without a trace.

        Raises:
            LorateError: there is no way to evaluate the batch again.
        """
        replay, forward = self._batch.replay, self._batch.forward
        if replay is None:
            raise LorateError(
                f"rule {self._rule!r} evaluates a batch again: call optimizer.step(closure), or set "
                "optimizer.replay = lambda: model(**batch).loss before optimizer.step(loss=loss)"
            )
        state = None if forward is None else forward.random_state
        model = nn.Module() if forward is None else forward.model

        def evaluated() -> Tensor:
            with without_trace(model, [slot.parameter for slot in self._slots], state):
                self._move.undo(self._slots, share)
                return replay()

        try:
            loss = evaluated()
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            with torch.enable_grad():  # an ordinary closure: it calls backward, come what may
                loss = evaluated()
        return float(ranks.mean(torch.as_tensor(loss, device=self._slots[0].parameter.device).detach()))
