import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer as bundled
from sklearn.preprocessing import StandardScaler

from kdfuse.datasets.breast_cancer import load_breast_cancer
from kdfuse.datasets.prepare import divided


@pytest.mark.parametrize("labels", [None, 50])
def test_it_is_standardised_by_the_training_rows_alone(labels: int | None) -> None:
    data = load_breast_cancer(labels=labels, seed=4)
    assert (data.input_shape, data.classes, data.class_names) == ((30,), 2, ("malignant", "benign"))
    raw = divided("raw", bundled().data, bundled().target, ["malignant", "benign"], 0.25, labels, 4)
    scaler = StandardScaler().fit(raw.train.head(569)[0].astype(np.float64))
    for name in ("train", "validation", "test"):
        x, y, _ = raw.split(name).head(569)  # type: ignore[union-attr]
        np.testing.assert_allclose(data.split(name).x, scaler.transform(x), rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]
        np.testing.assert_array_equal(data.split(name).y, y)  # type: ignore[union-attr]


def test_sixty_twenty_twenty_and_the_same_test_rows_for_every_seed() -> None:
    one, other = load_breast_cancer(seed=1), load_breast_cancer(seed=2)
    assert [split.rows for split in (one.train, one.validation, one.test)] == [341, 114, 114]  # type: ignore[union-attr]
    np.testing.assert_array_equal(one.test.y, other.test.y)  # type: ignore[union-attr]
    assert load_breast_cancer(validation=0).validation is None
