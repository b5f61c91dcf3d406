import numpy as np
import pytest

from kdfuse import labels

LABELS = {
    "integers": (np.array([0, 2, 1]), "classification", 3),
    "two integers": (np.array([0, 1, 1]), "classification", 2),
    "booleans": (np.array([True, False]), "classification", 2),
    "integer column": (np.array([[0], [2], [1]]), "classification", 3),
    "zeros and ones in a column": (np.array([[0], [1]]), "binary", 1),
    "floats of zeros and ones": (np.array([0.0, 1.0, 1.0]), "binary", 1),
    "one-hot": (np.eye(4, dtype=np.float32)[[0, 3, 1]], "classification", 4),
    "integer one-hot": (np.eye(4, dtype=np.int64)[[0, 3, 1]], "classification", 4),
    "soft labels": (np.array([[0.2, 0.8], [0.5, 0.5]], np.float32), "classification", 2),
    "several at once": (np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]]), "multilabel", 3),
    "a label for each step": (np.array([[0, 3], [2, 5]]), "classification", 6),
    "floats": (np.array([0.5, 2.0]), "regression", 1),
    "float column": (np.array([[0.5], [2.0]]), "regression", 1),
    "float columns": (np.array([[0.5, 1.0], [2.0, -1.0]]), "regression", 2),
}


@pytest.mark.parametrize("kind", LABELS)
def test_task_and_width_by_the_labels(kind: str) -> None:
    y, task, classes = LABELS[kind]
    assert labels.infer(y) == task
    assert labels.width(y, task) == classes
    labels.check(y, task, classes, "`train` y", named=False)


def test_the_task_is_resolved_for_each_output() -> None:
    y = {"digit": np.array([0, 1]), "price": np.array([0.5, 2.0])}
    assert labels.resolve("auto", y) == {"digit": "classification", "price": "regression"}
    assert labels.resolve({"price": "auto", "digit": "regression"}, y) == {"digit": "regression", "price": "regression"}
    with pytest.raises(ValueError, match="one task for each output"):
        labels.resolve({"digit": "auto"}, y)
    with pytest.raises(ValueError, match="Did you mean 'classification'"):
        labels.resolve("clasification", y)


def test_one_class_warns_and_leaves_room_for_two() -> None:
    with pytest.warns(UserWarning, match="All 4 training labels are class 0"):
        assert labels.width(np.zeros(4, int), "classification") == 2
    assert labels.width(np.full(4, 1), "classification", known=3) == 3


@pytest.mark.parametrize(
    ("y", "task", "classes", "message"),
    [
        (np.array([0, -1]), "classification", 3, "class numbers from 0"),
        (np.array([0, 3]), "classification", 3, "labels from 0 to 2"),
        (np.array([0.5, 1.5]), "classification", 3, "class numbers or rows that sum to 1"),
        (np.array([[0.5, 0.9]]), "classification", 2, "class numbers or rows that sum to 1"),
        (np.array([[0], [2]]), "binary", 1, "labels from 0 to 1"),
        (np.array([[0, 2]]), "multilabel", 2, "labels from 0 to 1"),
        (np.array([[1.0, 2.0]]), "regression", 3, "expected 3 columns"),
        (np.eye(3), "classification", 4, "expected 4 columns"),
    ],
)
def test_labels_that_do_not_fit(y: np.ndarray, task: str, classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels.check(y, task, classes, "`train` y", named=False)


def test_a_draw_keeps_the_shares_of_the_classes() -> None:
    classes = np.repeat([0, 1, 2, 3], [100, 50, 7, 1])
    drawn, kept = labels.draw(len(classes), 32, classes, seed=1)
    assert len(drawn) == 32
    np.testing.assert_array_equal(np.sort(np.concatenate([drawn, kept])), np.arange(158))
    shares = np.bincount(classes[drawn], minlength=4)
    assert abs(shares[0] - 20.25) < 1 and abs(shares[1] - 10.1) < 1 and shares[3] == 0  # the only row of class 3 stays
    again, _ = labels.draw(len(classes), 32, classes, seed=1)
    other, _ = labels.draw(len(classes), 32, classes, seed=2)
    np.testing.assert_array_equal(drawn, again)
    assert not np.array_equal(drawn, other)


def test_a_draw_without_classes() -> None:
    drawn, kept = labels.draw(10, 3, None, seed=0)
    assert (len(drawn), len(kept)) == (3, 7)


def test_strata() -> None:
    one_hot = np.eye(3)[[2, 0]]
    np.testing.assert_array_equal(labels.strata(one_hot, "classification"), [2, 0])
    np.testing.assert_array_equal(labels.strata(np.array([[0.0], [1.0]]), "binary"), [0, 1])
    np.testing.assert_array_equal(labels.strata((np.array([0.5, 2]), np.array([3, 1])), ("regression", "classification")), [3, 1])
    assert labels.strata(np.array([0.5, 2.0]), "regression") is None
