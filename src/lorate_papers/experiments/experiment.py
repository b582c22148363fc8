"""What an experiment is: a list of runs, the figures drawn from their results, and the claims they decide."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lorate.sweep import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[str, Mapping[str, Any]]
"""What the runs returned, by their names."""


@dataclass(frozen=True)
class Claim:
    """A sentence that the runs decide.

    Attributes:
        claim: the sentence.
        value: the number behind the verdict, with the bound it was held against.
        verdict: what came out.
    """

    claim: str
    value: str
    verdict: Literal["holds", "does not hold", "not testable here"]

    @classmethod
    def decide(cls, claim: str, value: str, holds: bool | None) -> "Claim":
        """The claim with its verdict; None means that these runs cannot tell.

        >>> Claim.decide("two is even", "remainder 0", 2 % 2 == 0).verdict
        'holds'
        """
        return cls(claim, value, "not testable here" if holds is None else "holds" if holds else "does not hold")


def all_hold(parts: Iterable[bool | None]) -> bool | None:
    """Whether every part of a claim holds: one that fails decides it, else one that is not known leaves it open.

    Without any part it is open too.

    >>> all_hold([True, True]), all_hold([None, False]), all_hold([True, None]), all_hold([])
    (True, False, None, None)
    """
    known = list(parts)
    if any(part is not None and not part for part in known):
        return False
    return True if known and None not in known else None


@dataclass(frozen=True)
class Options:
    """How an experiment is to be run.

    Attributes:
        quick: the short form, under a minute on two cores.
        seed: of everything random.
        data: other data than the embedded one, for experiments that take any.
        model: another model than the embedded one, likewise.
    """

    quick: bool = False
    seed: int = 0
    data: str | None = None
    model: str | None = None

    def seeds(self, count: int) -> list[int]:
        """Seeds of so many starts; with another ``seed`` all are different, up to a thousand of them.

        >>> Options(seed=2).seeds(3)
        [2000, 2001, 2002]
        """
        return [1000 * self.seed + number for number in range(count)]


@dataclass(frozen=True)
class Drawing:
    """A figure of the report.

    Attributes:
        name: of the files, without suffix.
        title: a few words.
        caption: what is drawn.
        description: what is to be seen, in numbers, for those who do not see it.
        figure: in the style of the report.
    """

    name: str
    title: str
    caption: str
    description: str
    figure: "Figure"


@dataclass(frozen=True)
class Experiment:
    """What a package of this folder offers as ``EXPERIMENT``.

    Attributes:
        title: a heading.
        summary: what is run and on what data, in two or three sentences.
        runs: what has to be run, the slow ones first; the same list for the same options.
        claims: decided by the results.
        drawings: the figures.
        takes: which of ``data`` and ``model`` can be replaced by the user's own.
    """

    title: str
    summary: str
    runs: Callable[[Options], Sequence[Run]]
    claims: Callable[[Results, Options], Sequence[Claim]]
    drawings: Callable[[Results, Options], Sequence[Drawing]]
    takes: Collection[str] = ()
