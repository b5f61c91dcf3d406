import keras
import numpy as np
import pytest

from kdfuse.population.rules import make_rule, why_no_rule

optimizers = keras.optimizers
MADE = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.8, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01, rho=0.8),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adam": lambda: optimizers.Adam(0.01, beta_1=0.8),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "sgd with decay": lambda: optimizers.SGD(0.1, weight_decay=0.2),
}


@pytest.mark.parametrize("name", MADE)
def test_a_rule_moves_weights_as_keras_does(name):
    draws = np.random.default_rng(0)
    start, gradients = draws.normal(size=20).astype("float32"), draws.normal(size=(6, 20)).astype("float32")
    gradients[:, 3] = 0
    theirs, variable = MADE[name](), keras.Variable(start)
    theirs.build([variable])
    ours, weights = make_rule(MADE[name](), 20), start.copy()
    for count, gradient in enumerate(gradients, start=1):
        theirs.apply([gradient], [variable])
        ours.step(weights, gradient.copy(), np.float32(theirs.learning_rate), count)
        np.testing.assert_allclose(weights, np.asarray(variable), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (optimizers.Nadam(), "Nadam has no rule"),
        (optimizers.SGD(clipnorm=1.0), "`clipnorm`"),
        (optimizers.Adam(amsgrad=True), "`amsgrad`"),
        (optimizers.RMSprop(momentum=0.5), "`momentum`"),
        (optimizers.RMSprop(centered=True), "`centered`"),
        (optimizers.Adam(use_ema=True), "`use_ema`"),
    ],
)
def test_what_has_no_rule_says_so(optimizer, said):
    assert said in why_no_rule(optimizer)


def test_what_is_left_out_of_the_decay_says_so():
    optimizer = optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    assert "decay" in why_no_rule(optimizer)
    assert all(why_no_rule(make()) is None for make in MADE.values())
