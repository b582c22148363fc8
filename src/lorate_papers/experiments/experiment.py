"""What an experiment is: a list of runs, the figures drawn from their results, and the claims they decide."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from lorate.sweep import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[str, Mapping[str, Any]]
"""What the runs returned, by their names."""


@dataclass(frozen=True)
class Claim:
    """A sentence that the runs decide."""

    claim: str  # the sentence
    value: str  # the number behind the verdict, with the bound it was held against
    verdict: Literal["holds", "does not hold", "not testable here"]  # what came out
    protocol: str = ""  # what differs from the paper's own experiment, see `Experiment.judged`

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
    """How an experiment is to be run."""

    quick: bool = False  # the short form, under a minute on two cores
    seed: int = 0  # of everything random
    data: str | None = None  # other data than the embedded one, for experiments that take any
    model: str | None = None  # another model than the embedded one, likewise

    def seeds(self, count: int) -> list[int]:
        """Seeds of so many starts; with another ``seed`` all are different, up to a thousand of them.

        >>> Options(seed=2).seeds(3)
        [2000, 2001, 2002]
        """
        return [1000 * self.seed + number for number in range(count)]

    @property
    def difference(self) -> str:
        """How a run differs from the full one, which a protocol describes; empty if it is that.

        >>> Options(quick=True, data="my.npz").difference
        'This run: the short form, with data my.npz. The full run: '
        """
        own = [f"with {name} {value}" for name, value in (("data", self.data), ("model", self.model)) if value]
        changed = [*(["the short form"] if self.quick else []), *own]
        return f"This run: {', '.join(changed)}. The full run: " if changed else ""


@dataclass(frozen=True)
class Drawing:
    """A figure of the report."""

    name: str  # of the files, without suffix
    title: str  # a few words
    caption: str  # what is drawn
    description: str  # what is to be seen, in numbers, for those who do not see it
    figure: "Figure"  # in the style of the report


@dataclass(frozen=True)
class Experiment:
    """What a package of this folder offers as ``EXPERIMENT``."""

    title: str  # a heading
    summary: str  # what is run and on what data, in two or three sentences
    # what has to be run, the slow ones first; the same list for the same options
    runs: Callable[[Options], Sequence[Run]]
    claims: Callable[[Results, Options], Sequence[Claim]]  # decided by the results
    drawings: Callable[[Results, Options], Sequence[Drawing]]  # the figures
    takes: Collection[str] = ()  # which of ``data`` and ``model`` can be replaced by the user's own
    # what differs from the paper's own experiment, by words of the claim; "" is for all that have none of the words
    protocols: Mapping[str, str] = field(default_factory=dict)

    def judged(self, claims: Iterable[Claim], options: Options = Options()) -> list[Claim]:
        """The claims with what differs from the paper's protocol, and first, what differs from the full run."""
        return [replace(claim, protocol=options.difference + self._protocol(claim.claim)) for claim in claims]

    def _protocol(self, sentence: str) -> str:
        return self.protocols[next((words for words in self.protocols if words and words in sentence), "")]
