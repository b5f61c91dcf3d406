import optuna
import pytest
from scipy import stats

from kdfuse.search.space import Float, Int, Space
from kdfuse.search.suggest import suggest


class Drawn:
    def rvs(self, size=None, random_state=None):
        return 1.0


def test_each_part_of_a_space_has_its_form():
    space = Space({"a": Int(2, 8, step=3), "b": Float(1e-3, 1.0, log=True), "c": [len, "x"], "d": stats.uniform(5, 2), "e": 7})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rows = [{name: suggest(trial, name, space) for name in space} for trial in (study.ask() for _ in range(40))]
    assert {row["a"] for row in rows} == {2, 5, 8} and {row["c"] for row in rows} == {len, "x"} and {row["e"] for row in rows} == {7}
    assert all(1e-3 <= row["b"] <= 1 and 5 <= row["d"] <= 7 for row in rows)
    assert 0.3 < sum(row["b"] < 10**-1.5 for row in rows) / 40 < 0.7


def test_what_has_no_quantiles_has_no_form():
    with pytest.raises(TypeError, match="no form for Drawn of 'a'"):
        suggest(optuna.create_study().ask(), "a", Space({"a": Drawn()}))
