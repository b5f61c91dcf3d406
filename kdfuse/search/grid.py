"""Grid search."""

import itertools

from kdfuse.search.candidate import Choice
from kdfuse.search.search import Search, whole
from kdfuse.search.session import Session
from kdfuse.settings import settings

MOST = 10_000


@settings
class GridSearch(Search):
    """Tries every combination of the space's choices.

    Attributes:
        points: into how many values a range is divided, both ends included; at least 1.
        stop_hopeless: where quality alone is wanted, a trial that trains alone stops once its best validation accuracy so far is below
            the median of earlier ones at that epoch.
    """

    points: int = 3
    stop_hopeless: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("points", self.points, 1)

    def expected(self, choice: Choice) -> int | None:
        return len(self._different(choice))

    def search(self, session: Session) -> None:
        opened = (session.open(candidate) for candidate in self._different(session.choice) if not session.over())
        session.run(trial for trial in opened if trial is not None)

    def _different(self, choice: Choice) -> list:  # type: ignore[type-arg]
        """The candidates, each once: settings that do not apply make no difference."""
        every = list(itertools.islice(choice.space.grid(self.points), MOST + 1))
        if len(every) > MOST:
            raise ValueError(f"`space`: a grid of more than {MOST:,} combinations. Give fewer choices or points, or use RandomSearch.")
        found: dict[str, object] = {}
        for values in every:
            candidate = choice.from_values(len(found), values)
            found.setdefault(repr(candidate.texts()), candidate)
        return list(found.values())
