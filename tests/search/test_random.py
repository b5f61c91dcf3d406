import pytest

import kdfuse as kf


def test_candidates_are_different_and_a_small_space_is_tried_whole(data):
    _, report = kf.RandomSearch(kf.Train(epochs=1), {"build__units": [4, 5, 6]}, n_trials=5)(kf.models.mlp, data)
    assert sorted(row["build__units"] for row in report.tables["trials"]) == [4, 5, 6]


def test_another_seed_gives_other_candidates_and_other_weights(data, space):
    rows = []
    for seed in (0, 1):
        _, report = kf.RandomSearch(kf.Train(epochs=1), space, n_trials=2, seed=seed)(kf.models.mlp, data)
        rows.append([(row["build__units"], row["training__learning_rate"]) for row in report.tables["trials"]])
    assert rows[0] != rows[1]


def test_more_trials_begin_with_the_same_ones(data, space):
    found = []
    for count in (2, 3):
        _, report = kf.RandomSearch(kf.Train(epochs=1), space, n_trials=count)(kf.models.mlp, data)
        found.append({row["model"]: row["validation/log_loss"] for row in report.tables["trials"]})
    assert len(found[1]) == 3 and {name: found[1][name] for name in found[0]} == found[0]


@pytest.mark.slow
def test_hopeless_trials_stop_early(data):
    rates = [0.01, 0.011, 0.012, 0.013, 0.014, 0.015, 0.016, 0.017, 1e-7, 2e-7, 3e-7, 4e-7]
    space = {"training__learning_rate": rates}
    stopping = kf.GridSearch(kf.Train(epochs=6), space, vectorized=False, stop_hopeless=True)
    _, report = stopping(kf.models.mlp, data)
    rows = {row["training__learning_rate"]: row for row in report.tables["trials"]}
    assert [rows[rate]["status"] for rate in rates] == ["finished"] * 8 + ["stopped"] * 4
    assert all(rows[rate]["epochs"] == 2 for rate in rates[8:])
    assert report.metrics["search/stopped"] == 4 and report.metrics["search/epochs"] == 8 * 6 + 4 * 2
