"""Names and values as MLflow accepts them."""

import json
import math
import re
from typing import Any

LONGEST_NAME = 250
LONGEST_PARAMETER = 6000
LONGEST_TAG = 5000


def name(text: str) -> str:
    """`text` with only letters, digits and `_ - . space : /`, and as a plain path; at most 250 characters."""
    parts = [part for part in re.sub(r"[^\w\-. :/]", "_", text).split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:LONGEST_NAME].rstrip("/") or "_"


def parameter(value: Any) -> str:
    """A setting as text; a long one is cut, and says so."""
    return shorten(value if isinstance(value, str) else json.dumps(value) if isinstance(value, bool) else str(value), LONGEST_PARAMETER)


def tag(key: str, value: Any) -> tuple[str, str]:
    """A tag; a key without a namespace gets ours."""
    return name(key if "." in key else f"kdfuse.{key}"), shorten(str(value), LONGEST_TAG)


def shorten(text: str, longest: int) -> str:
    """`text` in at most `longest` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def number(value: Any) -> float | None:
    """`value` as a float, or None where it is none (NaN and infinity are numbers)."""
    try:
        made = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return made if not math.isinf(made) else math.copysign(1.7976931348623157e308, made)
