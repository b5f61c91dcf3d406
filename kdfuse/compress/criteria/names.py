"""Criteria of shrinking by name."""

from kdfuse.compress.criteria.activation import ActivationImportance
from kdfuse.compress.criteria.apoz import APoZ
from kdfuse.compress.criteria.batch_norm_scale import BatchNormScale
from kdfuse.compress.criteria.norms import L1, L2
from kdfuse.compress.criteria.random import RandomImportance
from kdfuse.compress.criteria.taylor import Taylor
from kdfuse.compress.criteria.units import UnitCriterion
from kdfuse.settings import choose

UNIT_CRITERIA: dict[str, type[UnitCriterion]] = {
    "l1": L1,
    "l2": L2,
    "batch_norm_scale": BatchNormScale,
    "activation": ActivationImportance,
    "apoz": APoZ,
    "taylor": Taylor,
    "random": RandomImportance,
}


def unit_criterion(given: str | UnitCriterion) -> UnitCriterion:
    """A criterion from its name, with its default settings, or itself.

    Raises:
        ValueError: the name is unknown; the message names the near ones.
        TypeError: it is neither a name nor a criterion.
    """
    if isinstance(given, UnitCriterion):
        return given
    if not isinstance(given, str):
        raise TypeError(f"`criterion`: expected one of {list(UNIT_CRITERIA)} or a criterion such as kdfuse.Taylor(). Received: {given!r}.")
    return UNIT_CRITERIA[choose("criterion", given, UNIT_CRITERIA)]()
