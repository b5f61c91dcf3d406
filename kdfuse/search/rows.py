"""Rows: what scikit-learn's search has gathered while it runs, to be kept and to be put back."""

from collections.abc import Callable, Sequence
from typing import Any

Fold = dict[str, Any]
NAMES = ("all_candidate_params", "all_out", "results")


class Rows:
    """The rows of a search that is going on.

    `BaseSearchCV.fit` holds them in local variables and has no door for rows of an earlier process. They are reached through the
    function that it hands to `_run_search`, which closes over them; its `cv_results_`, ranks and winner then come out as if all had
    been evaluated at once.

    Args:
        evaluate: `evaluate_candidates` of scikit-learn.
        form: `BaseSearchCV._format_results`.
        splits: folds of each candidate.

    Raises:
        RuntimeError: scikit-learn works in another way than it did.
    """

    def __init__(self, evaluate: Callable[..., Any], form: Callable[..., Any], splits: int) -> None:
        cells = dict(zip(evaluate.__code__.co_freevars, evaluate.__closure__ or (), strict=False))
        if not set(NAMES) <= set(cells):
            raise RuntimeError("`storage`: this version of scikit-learn cannot take up rows of an earlier search. Leave `storage` out.")
        self._params, self._out, self._results = (cells[name] for name in NAMES)
        self._form, self._splits = form, splits

    def __len__(self) -> int:
        return len(self._params.cell_contents)

    def folds(self, row: int) -> list[Fold]:
        """What each fold of a row gave."""
        return list(self._out.cell_contents[row * self._splits : (row + 1) * self._splits])

    def put_back(self, rows: Sequence[tuple[dict[str, Any], list[Fold]]]) -> dict[str, Any]:
        """Add rows that an earlier process evaluated, and give all as `cv_results_`."""
        for params, folds in rows:
            self._params.cell_contents.append(params)
            self._out.cell_contents.extend(folds)
        self._results.cell_contents = self._form(self._params.cell_contents, self._splits, self._out.cell_contents, {})
        return self._results.cell_contents  # type: ignore[no-any-return]
