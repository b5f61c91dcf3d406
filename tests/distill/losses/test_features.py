"""The base of the losses on features, with losses of one's own. What all of them promise is in `test_feature_contract.py`."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.features import FeatureLoss, flatten, row_means


class Squares(FeatureLoss):
    """A mean over samples and positions, with a projector."""

    projects = True

    def per_sample(self, teacher_features: Any, student_features: Any, *labels: Any) -> Any:
        return keras.ops.mean(keras.ops.square(teacher_features - student_features), axis=-1)


class Told(FeatureLoss):
    """Keeps what it is told."""

    matches = False
    needs_rows = True

    def compare(self, teacher_features: Any, student_features: Any, weights: Any, place: int, **context: Any) -> Any:
        self.told = {"teacher": teacher_features, "student": student_features, "weights": weights, "place": place, **context}
        return weights


class Owner(FeatureLoss):
    """Cannot be without a part of its own."""

    needs_parts = True

    def build(self, teacher_shapes: Any, student_shapes: Any, rows: int | None = None) -> None:
        super().build(teacher_shapes, student_shapes, rows)
        self.parts = [keras.layers.Dense(1)]
        self.rows = rows

    def per_sample(self, teacher_features: Any, student_features: Any, *labels: Any) -> Any:
        return teacher_features - student_features


def features(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype("float32")


def test_a_loss_of_ones_own_is_a_weighted_mean_over_samples_and_positions() -> None:
    teacher, student = features(4, 3, 3, 5), 2 * features(4, 3, 3, 5)
    each = ((teacher - student) ** 2).mean((1, 2, 3))
    assert float(Squares().compute_loss(teacher, student)) == pytest.approx(each.mean(), rel=1e-6)
    weights = np.float32([0, 1, 2, 0.5])
    assert float(Squares().compute_loss(teacher, student, sample_weight=weights)) == pytest.approx((weights * each).mean(), rel=1e-6)
    spread = np.stack([weights, weights + 1], 1)  # a weight for each position of an output: the mean
    for given in (spread, [weights, weights + 1]):
        found = float(Squares().compute_loss(teacher, student, sample_weight=given))
        assert found == pytest.approx(((weights + 0.5) * each).mean(), rel=1e-6)
    assert float(Squares().compute_loss([teacher], (student,), sample_weight=[None])) == pytest.approx(each.mean(), rel=1e-6)


def test_a_loss_without_a_formula_says_so() -> None:
    with pytest.raises(RuntimeError, match="FeatureLoss is on features and writes neither `per_sample` nor `compare`"):
        FeatureLoss().compute_loss(features(2, 3), features(2, 3))


def test_names_of_layers() -> None:
    loss = FeatureLoss("a", "b")
    assert loss.teacher_layers == ("a",) and loss.student_layers == ("b",) and loss.output is None
    assert FeatureLoss().teacher_layers == (None,)
    assert FeatureLoss(["a", None], ["b", "c"]).teacher_layers == ("a", None)  # type: ignore[arg-type]
    for wrong in (3, ("a", 3), True):
        with pytest.raises(ValueError, match="expected a name, several, or None. Received: "):
            FeatureLoss(wrong, "a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected at least one layer. Received: an empty list"):
        FeatureLoss((), ())


def test_projectors_are_built_where_channels_differ_and_in_that_copy_alone() -> None:
    loss = Squares(("a", "b", "c"), ("a", "b", "c"))
    copy = loss.attached()
    copy.build([(None, 8, 8, 5), (None, 4), (None, 6)], [(None, 4, 4, 3), (None, 4), (None, 2)])
    assert [None if part is None else part.kernel.shape for part in copy.projectors] == [(3, 5), None, (2, 6)]
    assert copy.parts == [copy.projectors[0], copy.projectors[2]] and not loss.parts and not loss.built
    copy.build([(None, 4)] * 3, [(None, 4)] * 3)
    assert copy.parts == []
    with pytest.raises(ValueError, match="the teacher's features have 5 channels, the student's 3. In kdfuse.Distill a projector"):
        Squares().compute_loss(features(2, 5), features(2, 3))


def test_projected_features_are_float32_whatever_the_model_computes_in() -> None:
    copy = Squares().attached()
    copy.build([(None, 5)], [(None, 3)])
    teacher, student = tf.cast(features(2, 5), "float16"), tf.cast(features(2, 3), "float16")
    expected = np.mean((np.float32(student) @ copy.parts[0].kernel.numpy() - np.float32(teacher)) ** 2)
    assert float(copy.compute_loss(teacher, student)) == pytest.approx(expected, rel=1e-5)


def test_parts_that_a_loss_needs() -> None:
    with pytest.raises(ValueError, match="Owner trains parts of its own, which only kdfuse does. Use it in kdfuse.Distill"):
        Owner().validate_outputs(features(2, 3), features(2, 3))
    with pytest.raises(ValueError, match="Owner trains parts of its own"):
        Owner().compute_loss(features(2, 3), features(2, 3))
    copy = Owner().attached()
    copy.build([(None, 3)], [(None, 3)], rows=9)
    assert copy.rows == 9 and len(copy.parts) == 1 and float(copy.compute_loss(features(2, 3), features(2, 3))) == 0


def test_what_compare_is_told() -> None:
    teacher, student = features(3, 4, 4, 2), features(3, 5)
    loss = Told()
    loss.compute_loss(teacher, student, labels=np.array([[2], [0], [1]]), rows=np.array([7, 8, 9]))
    assert tuple(loss.told["teacher"].shape) == (3, 4, 4, 2)  # relations are between samples: nothing is brought to one size
    assert loss.told["place"] == 0 and loss.told["mask"] is None and list(loss.told["rows"]) == [7, 8, 9]
    np.testing.assert_array_equal(loss.told["labels"], [2, 0, 1])
    np.testing.assert_array_equal(loss.told["weights"], [1, 1, 1])
    for labels, wanted in ((np.eye(3), [0, 1, 2]), (np.array([1.0, 2, 0]), [1, 2, 0]), (None, None), ([np.zeros(3)] * 2, None)):
        loss.compute_loss(teacher, student, labels=labels)
        assert loss.told["labels"] is None if wanted is None else list(loss.told["labels"]) == wanted
    loss.compute_loss(teacher, student, labels=np.zeros((3, 4, 5)))
    assert loss.told["labels"] is None  # labels of positions belong to no row


def test_a_mean_over_steps_is_over_those_that_no_mask_leaves_out() -> None:
    teacher, student = features(2, 4, 5), 2 * features(2, 4, 5)
    mask = np.array([[True, True, False, False], [True, False, True, True]])
    each = ((teacher - student) ** 2).mean(-1)
    expected = (each[0, :2].mean() + each[1, [0, 2, 3]].mean()) / 2
    assert float(Squares().compute_loss(teacher, student, mask=tf.constant(mask))) == pytest.approx(expected, rel=1e-6)
    mask[0] = False  # a sample without a step
    assert float(Squares().compute_loss(teacher, student, mask=mask)) == pytest.approx(each[1, [0, 2, 3]].mean() / 2, rel=1e-6)


def test_masks_of_features_of_other_lengths() -> None:
    """The mask is that of the student's steps; a step of the shorter features is left out where all it is the mean of is."""
    mask = np.array([[True, True, True, False, False, False]])
    short, long = features(1, 3, 5), features(1, 6, 5)
    pooled = (long * mask[..., None]).reshape(1, 3, 2, 5).mean(2)
    expected = ((pooled - short) ** 2).mean(-1)[0, :2].mean()
    assert float(Squares().compute_loss(short, long, mask=tf.constant(mask))) == pytest.approx(expected, rel=1e-5)
    kept = np.array([[True, False, True]])
    pooled = long.reshape(1, 3, 2, 5).mean(2)
    expected = ((pooled - short) ** 2).mean(-1)[0, [0, 2]].mean()
    assert float(Squares().compute_loss(long, short, mask=tf.constant(kept))) == pytest.approx(expected, rel=1e-5)
    vectors = features(1, 5)
    assert np.isfinite(float(Squares().compute_loss(vectors, long, mask=tf.constant(mask))))
    assert float(Squares().compute_loss(vectors, vectors + 1, mask=tf.constant(mask))) == pytest.approx(1, rel=1e-5)


def test_each_layer_has_its_own_mask() -> None:
    loss = Squares(("a", "b"), ("a", "b"))
    teacher, student = features(1, 3, 5), 2 * features(1, 3, 5)
    each = ((teacher - student) ** 2).mean(-1)[0]
    given = tf.constant(student)
    given._keras_mask = tf.constant([[True, False, False]])
    found = loss.compute_loss([teacher, teacher], [given, student], mask=[None, tf.constant([[False, True, True]])])
    assert float(found) == pytest.approx(each[0] + each[1:].mean(), rel=1e-5)


def test_flat_features_and_means_of_rows() -> None:
    values = features(2, 3, 4)
    assert flatten(values).shape == (2, 12) and flatten(values[:, 0, 0]).shape == (2, 1)
    np.testing.assert_allclose(row_means(values), values.mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(row_means(values[:, 0, 0]), values[:, 0, 0])
    mask = np.float32([[1, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(row_means(values, mask), [values[0, [0, 2]].mean(), 0], rtol=1e-5)
    np.testing.assert_allclose(row_means(values, mask[:, :2]), values.mean((1, 2)), rtol=1e-5)  # a mask of other steps


def test_is_for_all_heads() -> None:
    for head in ("logits", "softmax", "sigmoid", "sigmoid_logits", "regression"):
        FeatureLoss().check_head(head)
