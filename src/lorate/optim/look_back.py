"""The last move, seen from its end with the batch of this step."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lorate import ranks, sharding
from lorate.errors import LorateError
from lorate.geometry import inner_products
from lorate.measurement import Array
from lorate.optim.evaluation import Batch
from lorate.optim.layout import Slot, gradients
from lorate.optim.move import Move
from lorate.optim.replay import Replay, without_trace


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
        self.end_slope = self.start_slope = self.squared_length = float("nan")  # until they are read
        self.is_repeatable = batch.replay is not None
        self.take_back = take_back
        self.loss_unit = rounding_unit(torch.float32 if batch.forward is None else batch.forward.dtype)
        self._rule, self._move, self._slots, self._batch = rule, move, slots, batch

    def read(self, pieces: Mapping[str, Array]) -> None:
        """Take in what `Move.pieces` gave, once it is on the host."""
        e = self._move.length
        slope, pp, pq, qq = (float(number) for number in pieces["move"])
        self.end_slope, self.start_slope = e * float(pieces["end slope"].sum()), e * slope
        self.squared_length = max(e**2 * pp + 2 * e**3 * pq + e**4 * qq, 0.0)

    @property
    def shows_slopes(self) -> bool:
        """Whether the batch can be differentiated again."""
        return self._batch.replay is not None and self._batch.replay.backward is not None

    def loss_before(self, share: float = 1.0) -> float:
        """The loss of this step's batch with a share of the move taken back, without a trace.

        Raises:
            LorateError: there is no way to evaluate the batch again.
        """
        return self._elsewhere(share, lambda replay: self._evaluated(replay))

    def slope_before(self) -> tuple[float, float]:
        """The loss likewise before the whole move, and its slope there along the move."""
        directions, slopes = sharding.whole(self._move.directions), []

        def differentiate(replay: Replay) -> Tensor:
            assert replay.backward is not None
            with torch.enable_grad():
                loss = replay.backward()
            slopes.append(inner_products(gradients(self._slots), directions).sum())
            return loss

        loss = self._elsewhere(1.0, differentiate)
        return loss, self._move.length * self._mean(slopes[0])

    def _elsewhere(self, share: float, evaluate: Callable[[Replay], Tensor]) -> float:
        replay, forward = self._batch.replay, self._batch.forward
        if replay is None:
            raise LorateError(
                f"rule {self._rule!r} evaluates a batch again now and then: call optimizer.step(closure), or set "
                "optimizer.replay = lambda: model(**batch).loss before optimizer.step(loss=loss)"
            )
        state = None if forward is None else forward.random_state
        model = nn.Module() if forward is None else forward.model
        with without_trace(model, [slot.parameter for slot in self._slots], state):
            self._move.undo(self._slots, share)
            return self._mean(evaluate(replay))

    def _evaluated(self, replay: Replay) -> Tensor:
        try:
            return replay.loss()
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise LorateError(
                f"rule {self._rule!r} calls the closure without gradients too: write `if loss.requires_grad: "
                "loss.backward()` in it"
            ) from error

    def _mean(self, value: Tensor | float) -> float:
        """The mean over the ranks of what each of them found."""
        return float(ranks.mean(torch.as_tensor(value, device=self._slots[0].parameter.device)))


def rounding_unit(dtype: torch.dtype) -> float:
    """Relative error of a loss that is a mean over many values computed in a dtype.

    Errors of 16-bit passes are far larger than those of the mean over them, hence the sixteenth.
    """
    eps = torch.finfo(dtype).eps
    return eps / 16 if dtype in (torch.float16, torch.bfloat16) else 2 * eps
