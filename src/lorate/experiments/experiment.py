"""What an experiment is: a list of runs, the figures drawn from their results, and the claims they decide."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Verdict = Literal["holds", "does not hold", "not testable here"]
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
    verdict: Verdict

    @classmethod
    def decide(cls, claim: str, value: str, holds: bool | None) -> "Claim":
        """The claim with its verdict; None means that these runs cannot tell.

        >>> Claim.decide("two is even", "remainder 0", 2 % 2 == 0).verdict
        'holds'
        """
        return cls(claim, value, "not testable here" if holds is None else "holds" if holds else "does not hold")


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


@dataclass(frozen=True)
class Run:
    """One piece of work, done in a process of its own.

    Attributes:
        name: unique in the experiment, letters, digits and ``-_=.,+`` only; names the file of the result.
        function: a function of a module, called with the arguments; returns what JSON can hold.
        arguments: plain values.
    """

    name: str
    function: Callable[..., Mapping[str, Any]]
    arguments: Mapping[str, Any]


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


class Experiment(Protocol):
    """One file of this folder each; named in `lorate.experiments.EXPERIMENTS`."""

    @property
    def title(self) -> str:
        """A heading."""

    @property
    def summary(self) -> str:
        """What is run and on what data, in two or three sentences."""

    @property
    def takes(self) -> Collection[Literal["data", "model"]]:
        """Which of the two can be replaced by the user's own."""

    def runs(self, options: Options) -> Sequence[Run]:
        """What has to be run; the same list for the same options."""

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims, decided by the results."""
