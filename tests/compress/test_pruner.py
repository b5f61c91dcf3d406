"""The pruner against TFMOT: the same masks, the same weights; and what it leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kdfuse.compress.criteria.magnitude import Magnitude
from kdfuse.compress.kernels import find
from kdfuse.compress.layer_targets import resolve
from kdfuse.compress.patterns import Block, NofM
from kdfuse.compress.pruner import Pruner, StepwisePruner
from kdfuse.compress.schedules import ConstantSparsity, PolynomialSparsity
from kdfuse.compress.selection import Selection

layers = keras.layers
RNG = np.random.default_rng(7)
GIVEN = {"mlp_x": RNG.normal(size=(84, 20)).astype("float32"), "cnn_x": RNG.normal(size=(84, 8, 8, 4)).astype("float32"),
         "y": RNG.integers(0, 4, 84)}  # fmt: skip
EPOCHS, STEPS = 4, 6  # of 84 rows in batches of 16

RAMP = {"initial_sparsity": 0.1, "final_sparsity": 0.8, "begin_step": 2, "end_step": 18}
CASES = {
    "adam, every step": ("mlp", "adam", 0.01, "PolynomialDecay", {**RAMP, "frequency": 1}),
    "momentum, every fourth step": ("mlp", "momentum", 0.05, "PolynomialDecay", {**RAMP, "frequency": 4}),
    "constant, from step 0": ("mlp", "sgd", 0.05, "ConstantSparsity", {"target_sparsity": 0.7, "begin_step": 0, "frequency": 5}),
    "2 of 4": ("mlp", "adam", 0.01, "ConstantSparsity", {"target_sparsity": 0.5, "begin_step": 0, "frequency": 1}, NofM(2, 4)),
    "blocks, mean": ("mlp", "adam", 0.01, "PolynomialDecay", {**RAMP, "frequency": 2}, Block(4, 1)),
    "blocks, max": ("mlp", "sgd", 0.05, "PolynomialDecay", {**RAMP, "frequency": 8}, Block(2, 2, "max")),
    "convolutions": ("cnn", "adam", 0.01, "PolynomialDecay", {**RAMP, "frequency": 1}),
    "convolutions, 2 of 4": ("cnn", "momentum", 0.02, "ConstantSparsity", {"target_sparsity": 0.5, "begin_step": 0}, NofM(2, 4)),
}


def net(kind):
    keras.utils.set_random_seed(3)
    if kind == "mlp":
        return keras.Sequential([keras.Input((20,)), layers.Dense(32, "relu"), layers.Dense(24, "relu"), layers.Dense(4)])
    convolutions = [layers.Conv2D(8, 3, activation="relu"), layers.Conv2D(12, 3, activation="relu")]
    return keras.Sequential([keras.Input((8, 8, 4)), *convolutions, layers.Flatten(), layers.Dense(4)])


def pruner_of(model, sparsity, schedule, pattern=None, kind=Pruner):
    kernels, spared = find(model)
    chosen, _ = resolve(kernels, spared, None, None if isinstance(pattern, NofM) else sparsity, pattern)
    selection = Selection([one for one, _ in chosen], [target for _, target in chosen], Magnitude(), "layer", [None] * len(chosen))
    return kind(selection, schedule.plan(EPOCHS * STEPS))


def trained(case, kind=Pruner, together=1):
    name, optimizer, rate, schedule, settings, *pattern = CASES[case]
    pattern = pattern[0] if pattern else None
    model = net(name)
    named = {old[:-5] if old.endswith("_step") else old: value for old, value in settings.items()}
    named["initial"] = named.pop("initial_sparsity", 0.0)
    final = named.pop("final_sparsity", None) or named.pop("target_sparsity")
    if schedule == "ConstantSparsity":
        named.pop("initial")
        made = ConstantSparsity() if isinstance(pattern, NofM) else ConstantSparsity(**named)
    else:
        made = PolynomialSparsity(**named)
    pruner = pruner_of(model, final, made, pattern, kind)
    kinds = {"adam": keras.optimizers.Adam(rate), "sgd": keras.optimizers.SGD(rate), "momentum": keras.optimizers.SGD(rate, momentum=0.9)}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kinds[optimizer], loss, steps_per_execution=together, jit_compile=False)  # XLA runs no NumPy in a step
    x, y = GIVEN[f"{name}_x"], GIVEN["y"]
    model.fit(x, y, batch_size=16, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[pruner], validation_data=(x[:32], y[:32]))
    return model, pruner


def tfmot(folder, names, *more):
    models = {kind: net(kind).get_weights() for kind in ("mlp", "cnn")}
    arrays = {f"{kind}_{place}": array for kind, weights in models.items() for place, array in enumerate(weights)}
    np.savez(folder / "given.npz", **GIVEN, **arrays)
    cases = {}
    for case in names:
        name, optimizer, rate, schedule, settings, *pattern = CASES[case]
        cases[case] = {"net": name, "optimizer": optimizer, "rate": rate, "schedule": schedule, "settings": settings, "epochs": EPOCHS}
        if pattern and isinstance(pattern[0], NofM):
            cases[case]["m_by_n"] = [pattern[0].m - pattern[0].n, pattern[0].m]
        elif pattern:
            cases[case] |= {"block": [pattern[0].inputs, pattern[0].outputs], "pooling": {"mean": "AVG", "max": "MAX"}[pattern[0].pooling]}
    (folder / "cases.json").write_text(json.dumps(cases))
    program = Path(__file__).with_name("tfmot_runs.py")
    files = [str(folder / name) for name in ("cases.json", "given.npz", "made.npz")]
    subprocess.run([sys.executable, str(program), *files, *more], check=True, capture_output=True)
    return np.load(folder / "made.npz")


def compare(case, made):
    _, pruner = trained(case)
    for place, (kernel, mask) in enumerate(zip(pruner.selection.kernels, pruner.masks, strict=True)):
        assert np.array_equal(mask.numpy(), made[f"{case}/{place}/mask"].astype(bool)), (case, place)
        np.testing.assert_allclose(kernel.variable.numpy(), made[f"{case}/{place}/weight"], rtol=2e-4, atol=1e-6)
        assert not kernel.variable.numpy()[~mask.numpy()].any() and not mask.numpy().all()


def test_masks_weights_and_schedules_are_those_of_tfmot(tmp_path):
    runs = tfmot(tmp_path, ["adam, every step"], "schedules")
    compare("adam, every step", runs)
    pairs = {"PolynomialDecay": (PolynomialSparsity(0.1, 3, 203, 1), 0.87), "ConstantSparsity": (ConstantSparsity(3, 203, 4), 0.6)}
    for name, (schedule, final) in pairs.items():
        plan = schedule.plan(229)
        assert [bool(plan.due(step)) for step in range(1, 230)] == runs[f"{name}/due"].tolist()
        assert np.array_equal(np.float32([plan.sparsity(step, final) for step in range(1, 230)]), runs[f"{name}/sparsity"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tfmot(tmp_path_factory.mktemp("tfmot"), list(CASES))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_masks_and_weights_are_those_of_tfmot_in_every_case(case, runs):
    compare(case, runs)


@pytest.mark.parametrize("case", ["adam, every step", "momentum, every fourth step", "blocks, mean"])
def test_many_steps_in_one_execution_and_steps_apart_give_the_same(case):
    model, pruner = trained(case)
    for other, twin in (trained(case, together=3), trained(case, StepwisePruner)):
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(pruner.masks, twin.masks, strict=True)) and pruner.curve == twin.curve
        assert int(twin.step) == EPOCHS * STEPS and "train_step" not in vars(other)


def test_the_weights_of_a_validation_are_masked():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            seen.append(np.count_nonzero(self.model.layers[0].kernel.numpy() == 0))

    model = net("mlp")
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    pruner = pruner_of(model, 0.5, ConstantSparsity())
    x, y = GIVEN["mlp_x"], GIVEN["y"]
    model.fit(x, y, epochs=1, verbose=0, validation_data=(x, y), callbacks=[pruner, Look()])
    assert set(seen) == {320} and pruner.curve == [0.5]


def test_an_average_of_weights_is_masked_at_the_end_and_zeros_are_positive():
    model = net("mlp")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), loss, jit_compile=False)
    pruner = pruner_of(model, 0.8, PolynomialSparsity(end=1.0))
    model.fit(GIVEN["mlp_x"], GIVEN["y"], batch_size=16, epochs=EPOCHS, verbose=0, callbacks=[pruner])
    assert pruner.selection.short(pruner.selection.weights())  # the average knows weights from before the masks
    pruner.finish()
    weights = pruner.selection.weights()
    assert not pruner.selection.short(weights) and not any(np.signbit(array[array == 0]).any() for array in weights)


def test_finish_leaves_the_zeros_of_an_earlier_epoch_as_they_are():
    model = net("mlp")
    pruner = pruner_of(model, 0.5, ConstantSparsity())
    kernel = model.layers[0].kernel
    other = np.where(np.arange(640).reshape(20, 32) % 2 == 0, kernel.numpy(), -0.0)  # as sparse, with other zeros
    pruner.masks[0].assign(np.arange(640).reshape(20, 32) % 2 == 1)
    kernel.assign(other)
    pruner.finish()
    assert np.array_equal(kernel.numpy(), other) and not np.signbit(kernel.numpy()[other == 0]).any()


def test_its_state_goes_round():
    _, pruner = trained("adam, every step")
    meta, arrays = pruner.get_state()
    twin = pruner_of(net("mlp"), 0.8, PolynomialSparsity())
    twin.set_state(json.loads(json.dumps(meta)), arrays)
    assert int(twin.step) == 24 and twin.curve == pruner.curve
    assert all(np.array_equal(a, b) for a, b in zip(pruner.masks, twin.masks, strict=True))
