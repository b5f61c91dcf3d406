import pytest

import kdfuse as kf


def test_every_combination_once_and_what_does_not_apply_makes_no_difference(data):
    space = {"build": [kf.models.mlp, kf.models.convnet], "build__units": kf.Int(4, 8), "build__filters": [2, 3], "build__layers": [1]}
    search = kf.GridSearch(kf.Train(epochs=1), space, points=2, limits={"macs": 700})
    _, report = search(None, data)
    rows = {(row["build"], row["build__units"], row.get("build__filters")) for row in report.tables["trials"]}
    assert rows == {("mlp", 4, None), ("mlp", 8, None)}
    assert any("candidates had more MACs than the limit" in note for note in report.notes)
    assert search.expected(search._choice(None)) == 6


def test_points_divide_a_range(data):
    _, report = kf.GridSearch(kf.Train(epochs=1), {"training__learning_rate": kf.Float(0.001, 0.1, log=True)}, points=3)(
        kf.models.mlp, data
    )
    assert sorted(row["training__learning_rate"] for row in report.tables["trials"]) == pytest.approx([0.001, 0.01, 0.1])


def test_a_grid_that_is_too_large_is_refused(data):
    space = {f"build__{name}": kf.Int(1, 1000) for name in ("units", "layers", "seed")}
    with pytest.raises(ValueError, match=r"more than 10,000 combinations"):
        kf.GridSearch(kf.Train(epochs=1), space, points=30)(kf.models.mlp, data)
    with pytest.raises(ValueError, match="`points`"):
        kf.GridSearch(kf.Train(), space, points=0)
