import dataclasses

import pytest

import kdfuse as kf
from kdfuse.models.mlp import mlp
from kdfuse.search.candidate import Choice


@pytest.fixture(scope="module")
def data():
    return kf.datasets.load("digits")


def values(choice, **given):
    first = {name: part[0] if isinstance(part, tuple) else part.low for name, part in choice.space.parts.items()}
    return choice.from_values(0, {**first, **given})


def test_names_go_to_the_builder_and_to_the_technique(data):
    space = {"build__units": [8], "training__learning_rate": kf.Float(0.1, 1), "training__decay": ["cosine"], "label_weight": [0.25]}
    teacher = kf.models.mlp(data, units=())
    candidate = values(Choice(kf.Distill(teacher), space, kf.models.mlp, seed=3))
    assert candidate.settings == {"units": 8, "seed": 3}
    assert candidate.technique.training.learning_rate == 0.1
    assert candidate.technique.training.decay == "cosine"
    assert candidate.technique.label_weight == 0.25
    assert candidate.technique.teacher is teacher
    assert candidate.model(data).layers[2].units == 8
    assert candidate.texts() == {"build__units": 8, "training__learning_rate": 0.1, "training__decay": "cosine", "label_weight": 0.25}


def test_the_same_space_serves_train_itself(data):
    candidate = values(Choice(kf.Train(), {"training__epochs": [3], "learning_rate": [0.5]}, kf.models.mlp))
    assert (candidate.technique.epochs, candidate.technique.learning_rate) == (3, 0.5)


def test_what_a_builder_does_not_have_is_left_out(data):
    choice = Choice(kf.Train(), {"build": [kf.models.mlp, kf.models.convnet], "build__filters": [4], "build__units": [8]}, None)
    assert values(choice).texts() == {"build": "mlp", "build__units": 8}
    assert values(choice, build=kf.models.convnet).texts() == {"build": "convnet", "build__filters": 4, "build__units": 8}


def test_what_a_chosen_setting_does_not_have_is_left_out(data):
    choice = Choice(
        kf.Train(), {"training__decay__rate": kf.Float(0.5, 0.9), "training__decay": ["cosine", kf.Exponential()]}, kf.models.mlp
    )
    assert list(values(choice).params) == ["training__decay"]
    candidate = values(choice, training__decay=kf.Exponential())
    assert candidate.technique.decay.rate == 0.5


def test_a_technique_may_be_chosen(data):
    teacher = kf.models.mlp(data, units=())
    choice = Choice(kf.Train(), {"technique": [kf.Train(), kf.Distill(teacher)], "losses__0__temperature": [3.0]}, kf.models.mlp)
    assert "losses__0__temperature" not in values(choice).params
    other = choice.from_values(0, {"technique": choice.space.choices("technique")[1], "losses__0__temperature": 3.0})
    assert other.technique.losses[0].temperature == 3.0


def test_builders_of_ones_own(data):
    def plain(data, width=4, *, deep=False):
        return mlp(data, units=(width,) * (2 if deep else 1))

    def anything(data, **settings):
        return mlp(data, **settings)

    choice = Choice(kf.Train(), {"build": [plain, anything], "build__width": [6], "build__deep": [True], "build__units": [5]}, None)
    assert values(choice).settings == {"width": 6, "deep": True}
    assert values(choice, build=anything).settings == {"width": 6, "deep": True, "units": 5}


def test_a_model_is_what_every_candidate_begins_with(data):
    model = kf.models.mlp(data, units=(4,))
    candidate = values(Choice(kf.Train(), {"training__l2": [0.1]}, model))
    assert candidate.model(data) is model


@pytest.mark.parametrize(
    ("space", "error", "said"),
    [
        ({"build__unit": [1]}, TypeError, "'build__units'"),
        ({"training__learning_rat": [1]}, TypeError, "'training__learning_rate'"),
        ({"training__optimizer": ["adamm"]}, ValueError, "'training__optimizer' cannot be 'adamm'.*'adam'"),
        ({"training__l2": kf.Float(-1, 1)}, ValueError, "'training__l2' cannot be -1"),
        ({"build": ["mlp"]}, TypeError, "builders for 'build'"),
        ({"technique": ["train"]}, TypeError, "techniques for 'technique'"),
    ],
)
def test_unknown_names_and_values_are_told_before_anything_runs(space, error, said):
    with pytest.raises(error, match=said):
        Choice(kf.Train(), space, kf.models.mlp)


def test_a_model_has_no_settings(data):
    with pytest.raises(TypeError, match="a model was given"):
        Choice(kf.Train(), {"build__units": [3]}, kf.models.mlp(data, units=()))


def test_the_seed_of_the_space_wins(data):
    candidate = values(Choice(kf.Train(), {"build__seed": [7]}, kf.models.mlp, seed=1))
    assert candidate.settings == {"seed": 7}
    assert dataclasses.replace(candidate, number=2).number == 2


def test_techniques_whose_texts_are_alike_are_different_candidates(data):
    trainings = [kf.Train(epochs=1), kf.Train(epochs=2)]
    choice = Choice(kf.Train(), {"technique": trainings}, kf.models.mlp)
    assert [values(choice, technique=one).texts() for one in trainings] == [{"technique": "Train"}, {"technique": "Train (1)"}]


def test_settings_that_do_not_go_together_are_told_by_the_candidate(data):
    choice = Choice(kf.Train(), {"training__jit": ["auto", True], "training__deterministic": [True]}, kf.models.mlp)
    assert not values(choice).error
    assert "no deterministic mode" in values(choice, training__jit=True).error


def test_a_model_is_refused_where_no_candidate_could_take_it(data):
    watched, few = kf.Train(stopping=kf.Stopping()), data.with_splits(validation=None)
    model, space = kf.models.mlp(data, units=4), {"learning_rate": [0.1, 0.2]}
    with pytest.raises(ValueError, match="no validation split"):
        Choice(watched, space, model).check_model(few)
    Choice(watched, space, model).check_model(data)
    Choice(watched, {**space, "stopping": [None, kf.Stopping()]}, model).check_model(few)  # with some it goes
    Choice(watched, space, kf.models.mlp).check_model(few)  # a builder's models are not there yet
