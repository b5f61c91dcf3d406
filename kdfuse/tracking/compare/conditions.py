"""Conditions and order: `size/parameters < 50000`, best first."""

import math
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from kdfuse.tracking.compare.columns import Values, meaning, resolve

COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "=": operator.eq}
EXPECTED = "a name, one of <= >= == != < >, and a value, such as 'size/parameters < 50000'"


class Condition(NamedTuple):
    """A column, a comparison, and what is compared with: a number or a text."""

    name: str
    sign: str
    value: float | str

    def holds(self, row: Values) -> bool:
        """Whether it is so for a row; a row without the value does not fit."""
        own: Any = row.get(self.name)
        if isinstance(self.value, float):
            return _is_number(own) and bool(COMPARE[self.sign](float(own), self.value))
        return own is not None and bool(COMPARE[self.sign](str(own).lower(), self.value.lower()))


def conditions(where: str | Iterable[str] | None, rows: Sequence[Values]) -> list[Condition]:
    """Conditions from their texts; `and` stands between several in one text.

    Raises:
        ValueError, TypeError: a text is no condition, or no row has what it asks for.
    """
    if where is None:
        return []
    texts = [where] if isinstance(where, str) else list(where)
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise TypeError(f"`where`: expected a text or a list of texts, each {EXPECTED}. Received: {wrong[0]!r}.")
    parts = [part for text in texts for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE)]
    return [_condition(part, rows) for part in parts]


def ordered(rows: Sequence[Values], sort: str) -> list[int]:
    """The places of rows, best first; those without the figure last; texts and settings from small to large."""
    known = meaning(sort)
    sign = -1.0 if known is not None and known.better == "higher" else 1.0

    def key(place: int) -> tuple[int, float, str]:
        value = rows[place].get(sort)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return 2, 0.0, ""
        return (0, sign * float(value), "") if _is_number(value) else (1, 0.0, str(value).lower())

    return sorted(range(len(rows)), key=key)


def _condition(text: str, rows: Sequence[Values]) -> Condition:
    found = re.fullmatch(r"\s*([^<>=!]+?)\s*(<=|>=|==|!=|<|>|=)\s*([^<>=!]+?)\s*", text)
    if found is None:
        raise ValueError(f"`where`: expected {EXPECTED}. Received: where={text!r}.")
    name, sign, given = resolve(found[1], rows, "where"), found[2], found[3].strip("'\"")
    value = _number(given)
    if value is None and (sign not in ("==", "!=", "=") or meaning(name) is not None):
        raise ValueError(f"`where`: expected a number after {name} {sign}, such as 0.9, 90 % or 50_000. Received: where={text!r}.")
    texts = any(row.get(name) is not None and not _is_number(row.get(name)) for row in rows)
    return Condition(name, sign, given if value is None or (texts and sign in ("==", "!=", "=")) else value)


def _number(text: str) -> float | None:
    plain = text.replace("_", "").replace(",", "").replace(" ", "")
    share = plain.endswith("%")
    try:
        value = float(plain.rstrip("%")) / (100 if share else 1)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
