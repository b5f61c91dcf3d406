import pytest

import kdfuse as kf


def rows(report):
    return [(row["model"], row["build__units"], row["training__learning_rate"]) for row in report.tables["trials"]]


def test_the_same_seed_gives_the_same_candidates_and_each_setting_counts(data, space):
    def run(**settings):
        search = kf.BayesSearch(kf.Train(epochs=1), space, **{"n_trials": 6, "batch": 2, "seed": 0, **settings})
        return sorted(rows(search(kf.models.mlp, data)[1]))

    plain = run()
    assert len(plain) == 6 and plain == run()
    assert plain != run(seed=1)
    assert plain != run(batch=3)
    assert plain != run(sampler="nsga2")


def test_several_objectives_and_limits(data, space):
    wanted = {"maximize": "accuracy", "minimize": "macs", "limits": {"parameters": 1_000}}
    _, report = kf.BayesSearch(kf.Train(epochs=1), space, n_trials=4, batch=2, **wanted)(kf.models.mlp, data)
    assert len(report.tables["trials"]) == 4 and all(row["size/parameters"] <= 1_000 for row in report.tables["trials"])


def test_bad_settings_say_what_is_wrong():
    for settings in ({"batch": 0}, {"n_trials": 0}, {"sampler": "tpee"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            kf.BayesSearch(kf.Train(epochs=1), {"learning_rate": [0.1]}, **settings)


def test_no_candidate_is_trained_twice_and_a_small_space_is_tried_whole(data):
    _, report = kf.BayesSearch(kf.Train(epochs=1), {"build__units": [2, 3]}, n_trials=12, batch=4)(kf.models.mlp, data)
    assert sorted(row["build__units"] for row in report.tables["trials"]) == [2, 3]
