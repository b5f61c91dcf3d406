import numpy as np
import pytest

import kdfuse as kf
from kdfuse.search.session import Session

RATES = [0.03, 0.01, 0.003, 1e-6]


@pytest.fixture(scope="module")
def halved(data):
    """Four candidates, of which one is left after two rungs; a network of another kind, that trains alone, among them."""
    space = {"training__learning_rate": RATES, "training__decay": ["cosine"], "build__units": [12]}
    return kf.HalvingSearch(kf.Train(batch_size=64), space, max_epochs=4, eta=2, refit=False)(kf.models.mlp, data)


def test_one_in_eta_survives_each_rung(halved):
    _, report = halved
    assert sorted(row["epochs"] for row in report.tables["trials"]) == [1, 1, 2, 4]
    assert [row["status"] for row in report.tables["trials"]] == ["finished", "stopped", "stopped", "stopped"]
    assert report.metrics["search/epochs"] == 8


def test_the_winner_was_trained_as_it_would_have_been_alone(halved, data):
    best, report = halved
    rate = report.tables["trials"][0]["training__learning_rate"]
    training = kf.Train(epochs=4, batch_size=64, learning_rate=rate, decay="cosine")
    model, _ = training(kf.models.mlp(data, units=12), data)
    np.testing.assert_allclose(np.asarray(best(data.test.x)), np.asarray(model(data.test.x)), atol=1e-4)


def test_survivors_that_train_alone_go_on_from_their_checkpoint(data):
    space = {"training__learning_rate": [0.03, 1e-6]}
    search = kf.HalvingSearch(kf.Train(batch_size=64, decay="cosine"), space, max_epochs=2, eta=2, refit=True, vectorized=False)
    best, report = search(kf.models.mlp, data)
    rows = report.tables["trials"]
    assert [(row["epochs"], row["how"]) for row in rows] == [(2, "alone"), (1, "alone")]
    # From its checkpoint or from the start: the refit gives the very same model.
    assert report.tables["front"][0]["test/log_loss"] == pytest.approx(report.metrics["test/log_loss"], rel=1e-5)
    assert [child.technique for child in report.children] == ["Train"]
    assert best.count_params() > 0


@pytest.mark.parametrize("under", ["labels", pytest.param("a teacher", marks=pytest.mark.slow)])
def test_live_survivors_go_on_without_being_built_again_to_the_same_weights(data, under):
    space = {"training__learning_rate": [0.03, 1e-6], "build__dropout": [0.2]}
    training = kf.Train(batch_size=64, decay="cosine", precision="mixed_bfloat16", stopping=kf.Stopping(patience=9))
    technique = training if under == "labels" else kf.Distill(kf.models.mlp(data, units=8, seed=3), training=training)
    built, found = {}, {}
    for live in (True, False):

        def build(data, dropout=0.0, live=live):
            built[live] = built.get(live, 0) + 1
            return kf.models.mlp(data, units=10, dropout=dropout)

        best, report = kf.HalvingSearch(technique, space, max_epochs=2, eta=2, refit=False, vectorized=False, live=live)(build, data)
        found[live] = ([row["validation/log_loss"] for row in report.tables["trials"]], best.get_weights())
    assert built == {True: 2, False: 2 + 1}
    assert found[True][0] == found[False][0]
    for mine, theirs in zip(found[True][1], found[False][1], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_brackets_of_hyperband_are_those_of_the_paper():
    search = kf.HalvingSearch(kf.Train(), {"learning_rate": [0.1]}, max_epochs=81, eta=3, hyperband=True)
    assert search.brackets() == [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]  # Li 2018, table 1
    assert kf.HalvingSearch(kf.Train(), {"learning_rate": [0.1]}, max_epochs=27).brackets() == [(27, 1)]
    assert kf.HalvingSearch(kf.Train(), {"learning_rate": [0.1]}, max_epochs=27, min_epochs=3, n_trials=5).brackets() == [(5, 3)]


def test_hyperband_runs_its_brackets(data):
    search = kf.HalvingSearch(kf.Train(), {"training__learning_rate": kf.Float(1e-4, 1e-1, log=True)}, max_epochs=2, eta=2, hyperband=True)
    _, report = search(kf.models.mlp, data)
    assert sorted(row["epochs"] for row in report.tables["trials"]) == [1, 2, 2, 2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_epochs": 0}, "`max_epochs`"),
        ({"eta": 1}, "`eta`"),
        ({"min_epochs": 9, "max_epochs": 3}, "`min_epochs`"),
        ({"hyperband": True, "n_trials": 3}, "`n_trials`"),
    ],
)
def test_bad_settings_say_what_is_wrong(settings, said):
    with pytest.raises(ValueError, match=said):
        kf.HalvingSearch(kf.Train(), {"learning_rate": [0.1]}, **settings)


def test_what_halving_cannot_do_is_told_before_training(data):
    with pytest.raises(TypeError, match="Use RandomSearch"):
        kf.HalvingSearch(kf.Shrink(), {"keep": [0.5]})(kf.models.mlp, data)
    with pytest.raises(ValueError, match="what halving decides"):
        kf.HalvingSearch(kf.Train(), {"training__epochs": [1, 2]})(kf.models.mlp, data)


def test_with_several_objectives_as_many_are_trained_to_the_end_as_make_a_front(data):
    space, settings = {"build__units": [4, 6, 8, 12, 24]}, {"max_epochs": 4, "eta": 2, "n_trials": 5, "refit": False}
    for minimize, ended in ((None, 1), (("macs",), 2)):
        search = kf.HalvingSearch(kf.Train(batch_size=64), space, maximize="accuracy", minimize=minimize, **settings)
        _, report = search(kf.models.mlp, data)
        assert sum(row["status"] == "finished" for row in report.tables["trials"]) == ended


def test_few_epochs_are_halved_too():
    assert kf.HalvingSearch(kf.Train(), {"learning_rate": [0.1]}, max_epochs=2).brackets() == [(3, 1)]
    assert kf.HalvingSearch(kf.Train(), {"learning_rate": [0.1]}, max_epochs=27, min_epochs=10).brackets() == [(3, 10)]
    assert kf.HalvingSearch(kf.Train(), {"learning_rate": [0.1]}, max_epochs=1).brackets() == [(1, 1)]


@pytest.mark.parametrize("vectorized", [True, False])
def test_when_the_time_is_up_the_best_goes_on_to_the_end(data, vectorized, monkeypatch):
    over = property(lambda self: lambda: any(trial.rungs for trial in self.trials), lambda self, _: None)
    monkeypatch.setattr(Session, "over", over, raising=False)
    space = {"training__learning_rate": [0.03, 0.01, 1e-6, 1e-7]}
    search = kf.HalvingSearch(
        kf.Train(batch_size=256), space, max_epochs=8, eta=2, n_trials=4, refit=False, vectorized=vectorized, timeout=60
    )
    _, report = search(lambda data: kf.models.mlp(data, units=4), data)
    rows = report.tables["trials"]
    assert [row["status"] for row in rows] == ["finished", "stopped", "stopped", "stopped"]
    assert rows[0]["epochs"] == 8 and any("time was up" in note for note in report.notes)
