"""Contrastive representation distillation against NumPy in double precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.crd import CRD

ROWS, DIM = 12, 5


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.sqrt((values**2).sum(-1, keepdims=True))


class Paper:
    """The loss with all rows as candidates, written with exponentials and products as in the paper."""

    def __init__(self, loss: CRD, temperature: float = 0.07, momentum: float = 0.5) -> None:
        part = loss.parts[0]
        self.kernels = [np.asarray(layer.kernel, float) for layer in part.maps]
        self.biases = [np.asarray(layer.bias, float) for layer in part.maps]
        self.memories = [np.asarray(memory, float) for memory in part.memories]
        self.temperature, self.momentum, self.z = temperature, momentum, None
        self.classes = np.full(ROWS, -1)

    def __call__(
        self, teacher: np.ndarray, student: np.ndarray, rows: np.ndarray, labels: np.ndarray | None = None, learn: bool = True
    ) -> float:
        features = [values.astype(float).reshape(len(values), -1) for values in (teacher, student)]
        new = [unit(values @ kernel + bias) for values, kernel, bias in zip(features, self.kernels, self.biases, strict=True)]
        classes = self.classes.copy()
        if labels is not None:
            classes[rows] = labels
        negatives = [[n for n in range(ROWS) if n != row and (classes[row] < 0 or classes[n] != classes[row])] for row in rows]
        scores = [np.exp(new[side] @ self.memories[1 - side].T / self.temperature) for side in (0, 1)]
        z = self.z
        if z is None:
            z = [np.mean(np.concatenate([[s[i, rows[i]], *s[i, negatives[i]]] for i in range(len(rows))])) * ROWS for s in scores]
        total = 0.0
        for side in (0, 1):
            for i, row in enumerate(rows):
                if not negatives[i]:
                    continue
                e, share = scores[side][i] / z[side], len(negatives[i]) / ROWS
                h = e / (e + share)
                total -= np.log(h[row]) + np.log(1 - h[negatives[i]]).sum()
        if learn:
            self.z, self.classes = z, classes
            for memory, values in zip(self.memories, new, strict=True):
                memory[rows] = unit(self.momentum * memory[rows] + (1 - self.momentum) * values)
        return total / len(rows)


def features(batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((batch, 2, 2, 3)).astype("float32"), generator.standard_normal((batch, 4)).astype("float32")


def built(**settings: object) -> CRD:
    loss = CRD(**{"dim": DIM, **settings})
    loss.build([(None, 2, 2, 3)], [(None, 4)], rows=ROWS)
    return loss


def kept(loss: CRD) -> list[np.ndarray]:
    part = loss.parts[0]
    return [np.asarray(variable) for variable in (*part.memories, part.classes, part.log_z)]


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(("temperature", "momentum"), [(0.07, 0.5), (0.5, 0.0), (0.2, 0.9)])
def test_values_of_several_steps(labelled: bool, temperature: float, momentum: float) -> None:
    loss = built(temperature=temperature, momentum=momentum)
    reference = Paper(loss, temperature, momentum)
    order = np.random.default_rng(7).permutation(ROWS)
    for step, rows in enumerate([order[:5], order[5:10], order[10:], order[3:8]]):
        teacher, student = features(len(rows), step)
        labels = rows % 3 if labelled else None
        value = loss.compute_loss(teacher, student, rows=rows.astype("int32"), labels=labels)
        assert float(value) == pytest.approx(reference(teacher, student, rows, labels), rel=2e-5)
        for memory, expected in zip(loss.parts[0].memories, reference.memories, strict=True):
            np.testing.assert_allclose(np.asarray(memory), expected, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(loss.parts[0].classes), reference.classes)
        np.testing.assert_allclose(np.asarray(loss.parts[0].log_z), np.log(reference.z), rtol=1e-5)


def test_gradients() -> None:
    loss, (teacher, student), rows = built(temperature=0.3), features(4), np.array([2, 11, 0, 5], "int32")
    labels = np.array([0, 1, 0, 2])
    first = features(3, 9)
    loss.compute_loss(*first, rows=np.array([1, 2, 3], "int32"))  # Z is known then, a constant
    reference = Paper(loss, 0.3)
    reference.z = np.exp(np.asarray(loss.parts[0].log_z, float))
    kernels = [layer.kernel.value for layer in loss.parts[0].maps]
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = loss.compute_loss(teacher, tf.convert_to_tensor(variable), rows=rows, labels=labels)
    gradients = tape.gradient(value, [variable, *kernels])
    targets = [student.astype(float), *reference.kernels]
    for place, gradient in enumerate(gradients):
        expected = np.zeros(targets[place].shape)
        for spot in np.ndindex(*expected.shape):
            for sign in (1, -1):
                moved = [target.copy() for target in targets]
                moved[place][spot] += sign * 1e-6
                reference.kernels = moved[1:]
                expected[spot] += sign * reference(teacher, moved[0], rows, labels, learn=False) / 2e-6
        np.testing.assert_allclose(np.asarray(gradient), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_drawn_negatives() -> None:
    loss, (teacher, student), rows = built(negatives=6, temperature=0.3), features(4), np.array([2, 11, 0, 5], "int32")
    generator = loss.parts[0].generator
    generator.state.assign(np.array([5, 0], "uint32"))
    drawn = np.asarray(keras.random.randint((6,), 0, ROWS, dtype="int32", seed=generator))
    generator.state.assign(np.array([5, 0], "uint32"))
    reference = Paper(loss, 0.3)
    new = [
        unit(values.astype(float).reshape(4, -1) @ kernel + bias)
        for values, kernel, bias in zip((teacher, student), reference.kernels, reference.biases, strict=True)
    ]
    value, expected = loss.compute_loss(teacher, student, rows=rows), 0.0
    for side in (0, 1):
        scores = np.exp(new[side] @ reference.memories[1 - side].T / 0.3)
        own = [scores[i, row] for i, row in enumerate(rows)]
        others = [scores[i, [n for n in drawn if n != row]] for i, row in enumerate(rows)]
        z = np.mean(np.concatenate([own, *others])) * ROWS
        for e, es in zip(own / z, others, strict=True):
            share = len(es) / ROWS
            expected -= (np.log(e / (e + share)) + np.log(share / (es / z + share)).sum()) / 4
    assert float(value) == pytest.approx(expected, rel=2e-5)
    again = float(loss.compute_loss(teacher, student, rows=rows))
    assert not np.array_equal(drawn, np.asarray(keras.random.randint((6,), 0, ROWS, dtype="int32", seed=generator)))
    assert again != pytest.approx(float(value), rel=1e-3)
    assert generator in loss.parts[0]._seed_generators
    assert built(negatives=ROWS - 1).parts[0].generator is None and built(negatives=ROWS - 2).parts[0].generator is not None


def test_sample_weights_and_memories() -> None:
    teacher, student = features(6)
    rows, labels = np.array([4, 0, 7, 9, 1, 3], "int32"), np.array([0, 1, 1, 0, 2, 2])
    plain, thrice = (built(), built())
    value = float(plain.compute_loss(teacher, student, rows=rows, labels=labels))
    assert float(thrice.compute_loss(teacher, student, np.full(6, 3.0), rows=rows, labels=labels)) == pytest.approx(3 * value, rel=1e-5)
    for own, other in zip(kept(plain), kept(thrice), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6)
    held = np.array([True, False, True, True, False, True])
    alone, among = built(), built()
    before = kept(among)
    value = float(alone.compute_loss(teacher[held], student[held], rows=rows[held], labels=labels[held]))
    teacher[~held] = np.nan
    got = float(among.compute_loss(teacher, student, held.astype("float32"), rows=rows, labels=labels))
    assert got == pytest.approx(4 / 6 * value, rel=1e-5)
    for own, other in zip(kept(alone), kept(among), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6)
    assert np.array_equal(kept(among)[0][rows[~held]], before[0][rows[~held]]) and not np.array_equal(kept(among)[0], before[0])
    nothing = built()
    assert float(nothing.compute_loss(*features(6), np.zeros(6), rows=rows, labels=labels)) == 0
    assert all(np.array_equal(own, other) for own, other in zip(kept(nothing), before, strict=True))
    assert float(nothing.compute_loss(*features(6), rows=rows, labels=labels)) > 0


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("batch", [1, 4])
def test_finite_gradients_and_half_precision(scale: float, batch: int) -> None:
    for temperature in (0.07, 0.002):
        loss, (teacher, student) = built(temperature=temperature), features(batch)
        variable, rows = tf.Variable(scale * student), np.arange(batch, dtype="int32")
        for _ in range(2):
            with tf.GradientTape() as tape:
                value = loss.compute_loss(scale * teacher, tf.convert_to_tensor(variable), rows=rows)
            gradients = tape.gradient(value, [variable, *(weight.value for weight in loss.parts[0].trainable_weights)])
            assert np.isfinite(float(value)) and all(np.isfinite(np.asarray(gradient)).all() for gradient in gradients)
        assert all(np.isfinite(values).all() for values in kept(loss))
        one, other = built(temperature=temperature), built(temperature=temperature)
        halves = [tf.cast(scale * values, "float16") for values in (teacher, student)]
        value = one.compute_loss(*halves, rows=rows)
        exact = float(other.compute_loss(*(tf.cast(half, "float32") for half in halves), rows=rows))
        assert value.dtype == "float32" and float(value) == pytest.approx(exact, rel=1e-6)


def test_each_setting_changes_the_result() -> None:
    rows = np.array([2, 11, 0, 5], "int32")

    def after(**settings: object) -> float:
        loss = built(**settings)
        loss.compute_loss(*features(4), rows=rows)
        return float(loss.compute_loss(*features(4), rows=rows))

    values = [after(), after(dim=7), after(negatives=3), after(temperature=0.2), after(momentum=0.0)]
    assert len(set(np.round(values, 4))) == 5


def test_the_parts_are_trained() -> None:
    loss, (teacher, student) = built(dim=16), features(ROWS)
    weights = loss.parts[0].trainable_weights
    assert len(weights) == 4 and len(loss.parts[0].non_trainable_weights) == 5
    optimizer, values = keras.optimizers.Adam(0.02), []
    optimizer.build(weights)

    @tf.function
    def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            value = loss.compute_loss(teacher, student, rows=np.arange(ROWS, dtype="int32"))
        gradients = tape.gradient(value, [weight.value for weight in weights])
        optimizer.apply(gradients, weights)
        return value, gradients

    for _ in range(60):
        value, _ = step()
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]
    own, other = (unit(kept(loss)[side]) for side in (0, 1))
    near = own @ other.T
    assert (near.argmax(1) == np.arange(ROWS)).mean() > 0.9  # a row's two representations have found each other


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("negatives", [4, 100])
def test_inside_a_graph(compiled: bool, negatives: int) -> None:
    eager, graph = built(negatives=negatives), built(negatives=negatives)

    @tf.function(jit_compile=compiled, reduce_retracing=True)
    def run(teacher: tf.Tensor, student: tf.Tensor, rows: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return graph.compute_loss(teacher, student, rows=rows, labels=labels)

    for step, batch in enumerate((5, 5) if compiled else (5, 5, 2)):
        rows = np.random.default_rng(step).permutation(ROWS)[:batch].astype("int32")
        teacher, student = features(batch, step)
        expected = eager.compute_loss(teacher, student, rows=rows, labels=rows % 3)
        got = run(*(tf.constant(value) for value in (teacher, student, rows, rows % 3)))
        assert float(got) == pytest.approx(float(expected), rel=1e-4)
    for own, other in zip(kept(eager), kept(graph), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-6)


def test_a_single_class_has_nothing_to_contrast() -> None:
    loss, (teacher, student) = built(), features(ROWS)
    everything = {"rows": np.arange(ROWS, dtype="int32"), "labels": np.zeros(ROWS, "int32")}
    assert float(loss.compute_loss(teacher, student, **everything)) == 0


def test_config_and_the_state_of_a_layer() -> None:
    loss = CRD(8, 5, 0.1, 0.3, "a", "b")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(revived) is CRD and revived.get_config() == loss.get_config()
    assert (revived.dim, revived.negatives, revived.temperature, revived.momentum) == (8, 5, 0.1, 0.3)
    first, second = built(), built()
    assert all(np.array_equal(own, other) for own, other in zip(kept(first), kept(second), strict=True))
    rows = np.arange(4, dtype="int32")
    first.compute_loss(*features(4), rows=rows)
    second.parts[0].set_weights(first.parts[0].get_weights())
    assert float(first.compute_loss(*features(4, 1), rows=rows)) == float(second.compute_loss(*features(4, 1), rows=rows))


def test_errors() -> None:
    with pytest.raises(ValueError, match="needs their numbers. Received: rows=None. Distil on arrays"):
        built().compute_loss(*features(3))
    with pytest.raises(ValueError, match="needs their numbers. Received: rows=None"):
        CRD().build([(None, 4)], [(None, 4)])
    with pytest.raises(ValueError, match="at least 2 rows"):
        CRD().build([(None, 4)], [(None, 4)], rows=1)
    with pytest.raises(ValueError, match="sizes that are known"):
        CRD().build([(None, None, 4)], [(None, 4)], rows=9)
    with pytest.raises(ValueError, match="CRD trains parts of its own"):
        CRD().compute_loss(*features(3), rows=np.arange(3))
    for wrong in ({"dim": 0}, {"negatives": 1.5}, {"dim": True}):
        with pytest.raises(ValueError, match="expected a whole number from 1"):
            CRD(**wrong)
    for momentum in (1.0, -0.1, None):
        with pytest.raises(ValueError, match=r"`momentum`: expected a number in \[0, 1\)"):
            CRD(momentum=momentum)
    with pytest.raises(ValueError, match="`temperature`: expected a number above 0"):
        CRD(temperature=0)
