import numpy as np
import pytest
from scipy.sparse import csr_matrix

from kdfuse.search.labels import decode, encode, per_class


def test_labels_become_numbers_and_come_back():
    y = np.array(["b", "a", "c", "a"], dtype=object)
    labels = encode(y, "Ours")
    assert labels.task == "classification" and list(labels.classes) == ["a", "b", "c"] and labels.names == ("a", "b", "c")
    assert list(labels.codes) == [1, 0, 2, 0]
    assert list(decode(np.eye(3)[labels.codes], labels.task, labels.classes)) == list(y)


def test_a_matrix_of_zeros_and_ones_is_multilabel():
    y = np.array([[1, 0, 1], [0, 0, 1]])
    for given in (y, csr_matrix(y), y.tolist()):
        labels = encode(np.asarray(given) if isinstance(given, list) else given, "Ours")
        assert labels.task == "multilabel" and (labels.codes == y).all() and list(labels.classes) == [0, 1, 2]
    chances = per_class(np.array([[0.2, 0.8], [0.5, 0.6]]), "multilabel")
    assert decode(chances, "multilabel", labels.classes).tolist() == [[0, 1], [0, 1]]


def test_a_column_is_raveled_with_a_warning():
    with pytest.warns(UserWarning, match="column-vector"):
        assert list(encode(np.array([[1], [3]]), "Ours").codes) == [0, 1]


@pytest.mark.parametrize(
    ("y", "problem"),
    [
        (np.array([0.5, 1.5]), "continuous"),
        (np.array([[1, 2], [2, 1]]), "MultiOutputClassifier"),
        (np.array([[1, 2], [3, 1]]), "MultiOutputClassifier"),
        (np.ones(3), "`y` of Ours.*one class. There"),
    ],
)
def test_what_is_no_class_is_refused(y, problem):
    with pytest.raises(ValueError, match=problem):
        encode(y, "Ours")


def test_a_class_without_weight_is_none():
    y, weights = np.array([0, 0, 1]), np.array([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="one class among the rows whose weight is not zero"):
        encode(y, "Ours", weights)
    assert len(encode(y, "Ours", weights[::-1]).classes) == 2


def test_one_column_is_the_second_class_and_rows_sum_to_one():
    np.testing.assert_allclose(per_class(np.array([0.2, 0.9]), "classification"), [[0.8, 0.2], [0.1, 0.9]])
    found = per_class(np.array([[0.3, 0.3000001, 0.4]]), "classification")
    assert found.sum() == pytest.approx(1, rel=1e-15)
