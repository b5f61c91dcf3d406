"""Several data sets as one, for the stages of a chain."""

import hashlib
from collections.abc import Sequence

from kdfuse.data import Data


class Several(Data):
    """The last of several data sets, which also knows those before it."""

    stages: tuple[Data, ...]


def several(stages: Sequence[Data]) -> Several:
    """Several data sets, one for each model of a chain, as one."""
    made = Several.__new__(Several)
    made.__dict__.update(stages[-1].__dict__, stages=tuple(stages))
    marks = [one.fingerprint for one in stages]
    made.__dict__["fingerprint"] = None if None in marks else hashlib.sha256("|".join(str(mark) for mark in marks).encode()).hexdigest()
    return made
