import keras
import pytest

from kdfuse.fitting.optimizers import NAMES, base_rate, check_optimizer, make_optimizer


@pytest.mark.parametrize("name", NAMES)
def test_every_name_makes_its_optimizer(name):
    made = make_optimizer(name, 0.02)
    assert type(made).__name__ == NAMES[name][0]
    assert float(made.learning_rate) == pytest.approx(0.02)


def test_momentum_names_set_momentum():
    assert make_optimizer("momentum").momentum == 0.9
    assert make_optimizer("nesterov").nesterov is True
    assert make_optimizer("sgd").momentum == 0.0


def test_an_object_is_copied_with_its_settings_and_stays_unbuilt():
    own = keras.optimizers.AdamW(3e-4, weight_decay=0.05, clipnorm=1.0)
    made = make_optimizer(own, 1e-2)
    assert made is not own and made.weight_decay == 0.05 and made.clipnorm == 1.0
    assert float(made.learning_rate) == pytest.approx(1e-2)
    assert float(own.learning_rate) == pytest.approx(3e-4) and not own.built


def test_base_rate_is_the_given_one_else_the_optimizers_own():
    assert base_rate("adam", None) == pytest.approx(0.001)
    assert base_rate("adam", 0.3) == 0.3
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    own = base_rate(keras.optimizers.SGD(schedule), None)
    assert isinstance(own, keras.optimizers.schedules.CosineDecay) and own.initial_learning_rate == 0.1


@pytest.mark.parametrize(
    ("optimizer", "rate", "error", "words"),
    [
        ("adm", None, ValueError, "Did you mean 'adam'"),
        (keras.optimizers.Adam, None, TypeError, "Give an object, not its class"),
        ("adam", 0, ValueError, "above 0"),
        ("adam", "fast", ValueError, "learning_rate"),
        ("adam", True, ValueError, "learning_rate"),
    ],
)
def test_wrong_settings_raise(optimizer, rate, error, words):
    with pytest.raises(error, match=words):
        check_optimizer(optimizer, rate)
