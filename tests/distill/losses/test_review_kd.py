"""Knowledge review against NumPy in double precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.review_kd import ReviewKD

IMAGES = ([(8, 8, 3), (4, 4, 5), (2, 2, 6)], [(8, 8, 2), (4, 4, 3), (2, 2, 4)])
SEQUENCES = ([(6, 3), (3, 4)], [(6, 2), (3, 3)])
VECTORS = ([(3,), (4,)], [(2,), (3,)])
BELOW = ([(5, 4, 3), (4,)], [(5, 4, 2), (3,)])


class Paper:
    """The loss with loops over positions, on the weights of a built loss."""

    def __init__(self, loss: ReviewKD) -> None:
        self.weights = []
        for part in loss.parts:
            layers = {"entry": part.entry, "entry_norm": part.entry_norm, "exit": part.exit, "exit_norm": part.exit_norm}
            layers |= {"attention": part.attention} if part.attention is not None else {}
            self.weights.append({name: [np.asarray(value, float) for value in layer.weights] for name, layer in layers.items()})

    def __call__(self, teachers: list[np.ndarray], students: list[np.ndarray]) -> float:
        most = max(values.ndim for values in students)
        total, below = 0.0, None
        for weights, teacher, student in reversed(list(zip(self.weights, teachers, students, strict=True))):
            teacher, student = (v.reshape(len(v), *[1] * (most - v.ndim), *v.shape[1:]) for v in (teacher, student))
            mixed = self.norm(student @ weights["entry"][0], *weights["entry_norm"])
            if below is not None:
                sizes = mixed.shape[1:-1]
                large = np.zeros_like(mixed)
                for place in np.ndindex(*sizes):
                    source = tuple(int(np.floor(p * own / size)) for p, own, size in zip(place, below.shape[1:-1], sizes, strict=True))
                    large[(slice(None), *place)] = below[(slice(None), *source)]
                kernel, bias = weights["attention"]
                share = 1 / (1 + np.exp(-(np.concatenate([mixed, large], -1) @ kernel + bias)))
                mixed = mixed * share[..., :1] + large * share[..., 1:]
            below = mixed
            output = self.norm(self.convolved(mixed, weights["exit"][0]), *weights["exit_norm"])
            total += self.hcl(output, teacher)
        return total

    @staticmethod
    def norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        axes = tuple(range(x.ndim - 1))
        return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5) * gamma + beta

    @staticmethod
    def convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        sizes = x.shape[1:-1]
        out = np.zeros((len(x), *sizes, kernel.shape[-1]))
        for place in np.ndindex(*sizes):
            for shift in np.ndindex(*kernel.shape[:-2]):
                source = tuple(p + s - 1 for p, s in zip(place, shift, strict=True))
                if all(0 <= p < size for p, size in zip(source, sizes, strict=True)):
                    out[(slice(None), *place)] += x[(slice(None), *source)] @ kernel[shift]
        return out

    @staticmethod
    def hcl(student: np.ndarray, teacher: np.ndarray) -> float:
        sizes = student.shape[1:-1]
        values, weights, weight = [np.mean((student - teacher) ** 2)], [1.0], 1.0
        for level in (4, 2, 1):
            if not sizes or level >= max(sizes):
                continue
            weight /= 2
            shape = tuple(min(level, size) for size in sizes)
            windows = [
                [slice(p * own // n, -(-(p + 1) * own // n)) for p, own, n in zip(place, sizes, shape, strict=True)]
                for place in np.ndindex(*shape)
            ]
            axes = tuple(range(1, student.ndim - 1))
            pooled = [[features[(slice(None), *window)].mean(axes) for window in windows] for features in (student, teacher)]
            values.append(np.mean((np.array(pooled[0]) - np.array(pooled[1])) ** 2))
            weights.append(weight)
        return float(np.dot(values, weights) / np.sum(weights))


def features(batch: int, shapes: tuple, scale: float = 1.0) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(batch)
    return [[(scale * generator.standard_normal((batch, *shape))).astype("float32") for shape in side] for side in shapes]


def built(shapes: tuple) -> ReviewKD:
    names = tuple(f"layer_{place}" for place in range(len(shapes[0])))
    loss = ReviewKD(names, names)
    loss.build(*([(None, *shape) for shape in side] for side in shapes))
    generator = np.random.default_rng(1)
    for part in loss.parts:  # so that what begins with ones and zeros has a part in the tests
        for layer in (part.entry_norm, part.exit_norm):
            layer.set_weights([0.3 * generator.standard_normal(value.shape) + 0.7 for value in layer.weights])
    return loss


def wide(lists: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    return [[values.astype(float) for values in side] for side in lists]


@pytest.mark.parametrize("shapes", [IMAGES, SEQUENCES, VECTORS, BELOW], ids=["images", "sequences", "vectors", "vector below images"])
def test_value_and_gradients(shapes: tuple) -> None:
    teachers, students = features(3, shapes)
    loss = built(shapes)
    reference = Paper(loss)
    variables = [tf.Variable(student) for student in students]
    kernels = [part.exit.kernel.value for part in loss.parts] + [part.attention.kernel.value for part in loss.parts[:-1]]
    with tf.GradientTape() as tape:
        value = loss.compute_loss(teachers, [tf.convert_to_tensor(variable) for variable in variables])
    assert float(value) == pytest.approx(reference(*wide([teachers, students])), rel=1e-5)
    gradients = tape.gradient(value, [*variables, *kernels])
    exact = wide([teachers, students])
    targets = [*exact[1], *(w["exit"][0] for w in reference.weights), *(w["attention"][0] for w in reference.weights[:-1])]
    generator = np.random.default_rng(0)
    for target, gradient in zip(targets, gradients, strict=True):
        gradient = np.asarray(gradient)
        for spot in generator.permutation(target.size)[:8]:
            place, slope = np.unravel_index(spot, target.shape), 0.0
            before = target[place]
            for sign in (1, -1):
                target[place] = before + sign * 1e-5
                slope += sign * reference(*exact) / 2e-5
            target[place] = before
            assert gradient[place] == pytest.approx(slope, rel=1e-3, abs=1e-4 * float(np.abs(gradient).max()))


def test_one_layer_has_no_fusion() -> None:
    shapes = (IMAGES[0][:1], IMAGES[1][:1])
    teachers, students = features(3, shapes)
    loss = ReviewKD("a", "b")
    loss.build(*([(None, *shape) for shape in side] for side in shapes))
    assert loss.parts[0].attention is None
    assert float(loss.compute_loss(teachers[0], students[0])) == pytest.approx(Paper(loss)(*wide([teachers, students])), rel=1e-5)


def test_the_student_is_compared_at_the_smaller_size() -> None:
    shapes = ([(8, 8, 3), (4, 4, 4)], [(4, 4, 2), (2, 2, 3)])
    teachers, students = features(3, shapes)
    small = [v.reshape(3, v.shape[1] // 2, 2, v.shape[2] // 2, 2, v.shape[3]).mean((2, 4)) for v in teachers]
    loss = built(shapes)
    assert float(loss.compute_loss(teachers, students)) == pytest.approx(Paper(loss)(*wide([small, students])), rel=1e-5)


def test_deep_knowledge_reaches_the_shallow_layers() -> None:
    teachers, students = features(3, IMAGES)
    loss = built(IMAGES)
    variable = tf.Variable(students[2])
    with tf.GradientTape() as tape:
        output, below = None, None
        for part, student in reversed(list(zip(loss.parts, [*students[:2], tf.convert_to_tensor(variable)], strict=True))):
            output, below = part(tf.convert_to_tensor(student), below, tf.ones(3))
        value = tf.reduce_sum(output * teachers[0])
    assert np.abs(tape.gradient(value, variable)).max() > 1e-3
    swapped = built(([*reversed(IMAGES[0])], [*reversed(IMAGES[1])]))
    assert float(swapped.compute_loss(teachers[::-1], students[::-1])) != pytest.approx(
        float(loss.compute_loss(teachers, students)), rel=1e-3
    )


def test_sample_weights() -> None:
    teachers, students = features(6, IMAGES)
    loss = built(IMAGES)
    value = float(loss.compute_loss(teachers, students))
    assert float(loss.compute_loss(teachers, students, sample_weight=np.full(6, 3.0))) == pytest.approx(3 * value, rel=1e-5)
    held = np.array([True, False, True, True, False, True])
    expected = float(loss.compute_loss([v[held] for v in teachers], [v[held] for v in students]))
    for values in (*teachers, *students):
        values[~held] = np.nan
    assert float(loss.compute_loss(teachers, students, sample_weight=held.astype("float32"))) == pytest.approx(4 / 6 * expected, rel=1e-5)
    assert float(loss.compute_loss(teachers, students, sample_weight=np.zeros(6))) == 0


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("batch", [1, 3])
def test_finite_gradients_and_half_precision(scale: float, batch: int) -> None:
    for shapes in (IMAGES, VECTORS):
        teachers, students = features(batch, shapes, scale)
        loss = built(shapes)
        variables = [tf.Variable(tf.cast(student, "float16")) for student in students]
        trained = [weight.value for part in loss.parts for weight in part.trainable_weights]
        with tf.GradientTape() as tape:
            value = loss.compute_loss(teachers, [tf.convert_to_tensor(variable) for variable in variables])
        assert value.dtype == "float32" and np.isfinite(float(value))
        gradients = tape.gradient(value, [*variables, *trained])
        assert all(np.isfinite(np.asarray(gradient)).all() for gradient in gradients)
        halves = [[np.asarray(tf.cast(v, "float16"), float) for v in side] for side in (teachers, students)]
        assert float(loss.compute_loss(halves[0], variables)) == pytest.approx(Paper(loss)(*halves), rel=1e-3)


def test_the_parts_are_trained() -> None:
    teachers, students = features(16, IMAGES)
    loss = built(IMAGES)
    weights = [weight for part in loss.parts for weight in part.trainable_weights]
    assert len(weights) == len({id(weight) for weight in weights}) == 3 * 6 + 2 * 2
    optimizer, values = keras.optimizers.Adam(0.02), []
    optimizer.build(weights)

    @tf.function
    def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            value = loss.compute_loss(teachers, students)
        gradients = tape.gradient(value, [weight.value for weight in weights])
        optimizer.apply(gradients, weights)
        return value, gradients

    for _ in range(25):
        value, gradients = step()
        assert all(np.abs(gradient).max() > 0 for gradient in gradients)
        values.append(float(value))
    assert values[-1] < 0.7 * values[0]


def test_compiled() -> None:
    teachers, students = features(3, ([(5, 7, 3), (3, 3, 4)], [(5, 7, 2), (3, 3, 3)]))
    loss = built(([(5, 7, 3), (3, 3, 4)], [(5, 7, 2), (3, 3, 3)]))
    run = tf.function(lambda a, b: loss.compute_loss(a, b), jit_compile=True)
    assert float(run(teachers, students)) == pytest.approx(Paper(loss)(*wide([teachers, students])), rel=1e-5)


def test_masked_steps_are_as_if_they_were_not_there() -> None:
    _, students = features(3, ([(6, 3)], [(6, 2)]))
    long, short = (ReviewKD("a", "b") for _ in range(2))
    long.build([(None, 6, 3)], [(None, 6, 2)])
    short.build([(None, 4, 3)], [(None, 4, 2)])
    steps = np.zeros((3, 6, 1), "float32")
    steps[:, :4] = 1
    found, _ = long.parts[0](students[0], None, tf.ones(3), tf.constant(steps))
    expected, _ = short.parts[0](students[0][:, :4], None, tf.ones(3))
    np.testing.assert_allclose(np.asarray(found)[:, :4], np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_means_over_windows_are_over_steps_that_are_not_masked() -> None:
    teachers, students = features(3, ([(6, 3)], [(6, 2)]))
    mask = np.array([[1, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    loss = ReviewKD("a", "b")
    loss.build([(None, 6, 3)], [(None, 6, 2)])
    students[0][~mask] = teachers[0][~mask] = 0
    output, _ = loss.parts[0](students[0], None, tf.ones(3), tf.cast(mask[..., None], "float32"))
    expected = 0.0
    for difference, held in zip(np.asarray(output, float) - teachers[0], mask, strict=True):
        values = [np.mean(difference[held] ** 2)]
        for level in (4, 2, 1):
            windows = [slice(p * 6 // level, -(-(p + 1) * 6 // level)) for p in range(level)]
            means = [difference[window][held[window]].mean(0) for window in windows if held[window].any()]
            values.append(np.mean(np.array(means) ** 2))
        expected += np.dot(values, [1, 1 / 2, 1 / 4, 1 / 8]) / (15 / 8) / 3
    assert float(loss.compute_loss(teachers[0], students[0], mask=tf.constant(mask))) == pytest.approx(expected, rel=1e-5)


def test_middle_channels() -> None:
    loss = built(([(4, 4, 3), (2, 2, 4)], [(4, 4, 2), (2, 2, 700)]))
    assert loss.parts[0].middle == loss.parts[1].middle == 512
    assert built(IMAGES).parts[0].middle == 4


def test_config_and_errors() -> None:
    loss = ReviewKD(("a", "b"), ("c", "d"))
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(revived) is ReviewKD and revived.get_config() == loss.get_config() and revived.teacher_layers == ("a", "b")
    with pytest.raises(ValueError, match="ReviewKD trains parts of its own, which only kdfuse does"):
        loss.compute_loss(*features(2, VECTORS))
    with pytest.raises(ValueError, match="images or of sequences, not both"):
        built(([(4, 4, 3), (4, 3)], [(4, 4, 3), (4, 3)]))
    with pytest.raises(ValueError, match="sizes that are known"):
        built(([(None, 3)], [(None, 3)]))
    first, second = (ReviewKD("a", "b") for _ in range(2))
    for each in (first, second):
        each.build([(None, 4, 4, 3)], [(None, 4, 4, 2)])
    assert all(np.array_equal(a, b) for a, b in zip(first.parts[0].get_weights(), second.parts[0].get_weights(), strict=True))
