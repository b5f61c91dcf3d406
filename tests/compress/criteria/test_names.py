import pytest

from kdfuse.compress.criteria.names import UNIT_CRITERIA, unit_criterion
from kdfuse.compress.criteria.taylor import Taylor
from kdfuse.settings import flatten


def test_by_name_or_as_it_is():
    given = Taylor(rows=8)
    assert unit_criterion(given) is given and unit_criterion("taylor") is not given
    for name, kind in UNIT_CRITERIA.items():
        assert type(unit_criterion(name)) is kind
    assert flatten(unit_criterion("l1")) == {"direction": "both"}
    with pytest.raises(ValueError, match="`criterion`: expected one of.*Did you mean 'taylor'"):
        unit_criterion("tailor")
    with pytest.raises(TypeError, match="`criterion`: expected one of"):
        unit_criterion(3)
