"""The base of combiners: one of one's own is a few lines."""

import keras
import numpy as np
import pytest
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner, normalised_weights


@keras.saving.register_keras_serializable("test_combiner")
class Minimum(Combiner):
    def combine(self, stacked):
        return self.normalised(ops.min(stacked, axis=-1))


def test_ones_own_writes_combine():
    a, b = np.array([[0.5, 0.5]], "float32"), np.array([[0.2, 0.8]], "float32")
    np.testing.assert_allclose(Minimum()([a, b]), [[0.2 / 0.7, 0.5 / 0.7]], rtol=1e-6)
    np.testing.assert_allclose(Minimum(head="sigmoid")([a, b]), [[0.2, 0.5]], rtol=1e-6)
    assert not Minimum().fitted and Minimum().learn(np.stack([a, b]), np.zeros(1)) is not None
    with pytest.raises(NotImplementedError, match="Combiner: write `combine"):
        Combiner()([a, b])
    with pytest.raises(ValueError, match="head"):
        Minimum(head="logits")


def test_weights_are_brought_to_a_sum_of_one():
    assert normalised_weights("weights", (1, 3)) == (0.25, 0.75) and normalised_weights("weights", None) is None
    for wrong in ((), (0, 0), (1, -1), (1, float("nan")), ((1, 2), (3, 4)), "ab", 5, (None,)):
        with pytest.raises(ValueError, match="`weights`: expected a number of at least 0 for each member"):
            normalised_weights("weights", wrong)


def test_tiny_rows_are_brought_to_a_sum_of_one_and_empty_ones_to_equal_shares():
    rows = np.array([[1e-30, 3e-30], [0, 0], [0.2, 0.2]], "float32")
    np.testing.assert_allclose(Combiner().normalised(rows), [[0.25, 0.75], [0.5, 0.5], [0.5, 0.5]], rtol=1e-5)
    np.testing.assert_array_equal(Combiner(head="sigmoid").normalised(rows), rows)


def test_steps_that_any_member_leaves_out_are_left_out():
    masks = [np.array([[True, True, False]]), None, np.array([[True, False, False]])]
    np.testing.assert_array_equal(Minimum().compute_mask([], masks), [[True, False, False]])
    assert Minimum().compute_mask([], [None, None]) is None
