"""Trials: what became of each candidate."""

import dataclasses
from typing import Any, Literal

from kdfuse.recording import Run
from kdfuse.search.candidate import Candidate

KEPT = ("status", "metrics", "history", "epochs", "seconds", "ended", "how", "error", "notes")
Status = Literal["open", "finished", "stopped", "failed"]


@dataclasses.dataclass
class Trial:
    """A candidate and what was measured of it.

    Attributes:
        candidate: its settings.
        status: `open` while it may be trained on, `finished`, `stopped` before its last epoch, or `failed`.
        metrics: figures on the validation split and of size and cost.
        history: curves, one value an epoch.
        epochs: trained so far; None where the technique does not tell.
        seconds: spent on it; of several that trained as one, its share.
        ended: seconds from the start of the search to its end.
        how: how it ran: `population of 12`, `alone`.
        error: of a failed one.
        run: where it is recorded, while it is open.
        key: of its checkpoints.
        notes: of its training.
        built: the model it begins with, until it was trained first.
        structure: figures that training does not change, where they were measured.
        model: the trained model, as long as it may be wanted.
        publish: makes of it and the data what a user gets, where that is still to do.
        live: its training, where that paused and stays in memory.
        mark: equal for trials that one compiled model can train in turn; None where it trains this one alone.
        alone: why it cannot train together with others.
        rungs: what was known of it where it paused, by the epochs of the pause.
    """

    candidate: Candidate
    status: Status = "open"
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    epochs: int | None = None
    seconds: float = 0.0
    ended: float = 0.0
    how: str = ""
    error: str = ""
    run: Run | None = None
    key: str | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    built: Any = None
    structure: dict[str, float] | None = None
    model: Any = None
    publish: Any = None
    live: Any = None
    mark: str | None = None
    alone: str = ""
    rungs: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def number(self) -> int:
        """Its place in the search, from 0."""
        return self.candidate.number

    @property
    def name(self) -> str:
        """What it is called in tables and runs."""
        return f"trial {self.number}"

    def row(self) -> dict[str, Any]:
        """A line of the table of trials."""
        told = {"model": self.name, "status": self.status, **self.candidate.texts(), **self.metrics}
        told |= {"epochs": self.epochs, "seconds": round(self.seconds, 3), "ended": round(self.ended, 3), "how": self.how}
        return told | ({"error": self.error} if self.error else {})

    def kept(self) -> dict[str, Any]:
        """What a ledger keeps of it, as JSON."""
        return {"number": self.number, "params": self.candidate.texts(), **{name: getattr(self, name) for name in KEPT}}

    def restore(self, kept: dict[str, Any]) -> bool:
        """Take over what a ledger kept; False where it is of another candidate."""
        if not self.owns(kept):
            return False
        for name in KEPT:
            setattr(self, name, kept[name])
        return True

    def owns(self, kept: dict[str, Any]) -> bool:
        """Whether what a ledger kept is of this candidate."""
        return kept["params"] == self.candidate.texts()  # type: ignore[no-any-return]

    def pause(self, rung: int) -> dict[str, Any]:
        """Remember what is known of it at a rung, and give it as a ledger keeps it."""
        self.rungs[rung] = {**self.kept(), "rung": rung}
        return self.rungs[rung]
