"""Random search."""

from collections.abc import Iterator

from kdfuse.search.candidate import Candidate
from kdfuse.search.search import Search, whole
from kdfuse.search.session import Session
from kdfuse.search.space import seeded
from kdfuse.search.trial import Trial
from kdfuse.settings import settings

DRAWS = 50
"""Draws for each trial wanted, before a search gives up on candidates that are new and within the limits."""


@settings
class RandomSearch(Search):
    """Draws candidates evenly from the space (Bergstra and Bengio 2012, JMLR 13).

    Attributes:
        n_trials: different candidates to train, at least 1. A space with fewer of them is tried whole.
        stop_hopeless: where quality alone is wanted, a trial that trains alone stops once its best validation accuracy so far is below
            the median of earlier ones at that epoch (Golovin 2017, Google Vizier).
    """

    n_trials: int = 20
    stop_hopeless: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("n_trials", self.n_trials, 1)
        if not isinstance(self.stop_hopeless, bool):
            raise TypeError(f"`stop_hopeless`: expected True or False. Received: stop_hopeless={self.stop_hopeless!r}.")

    def search(self, session: Session) -> None:
        session.run(drawn(session, self.n_trials, self.seed))


def drawn(session: Session, count: int, seed: int, first: int = 0) -> Iterator[Trial]:
    """Open trials of different candidates, the draw of each being a function of the seed and its number.

    Args:
        session: where they are opened.
        count: how many are wanted; fewer come where the space or the limits have no more.
        seed: of the draws.
        first: the number of the first draw.
    """
    opened, seen = 0, {repr(trial.candidate.texts()) for trial in session.trials}
    for number in range(first, first + DRAWS * count):
        if opened == count or session.over():
            break
        candidate: Candidate = session.choice.from_values(number, session.choice.space.draw(seeded(seed, number)))
        told = repr(candidate.texts())
        if told in seen:
            continue
        seen.add(told)
        trial = session.open(candidate)
        if trial is not None:
            opened += 1
            yield trial
