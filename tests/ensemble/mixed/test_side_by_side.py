"""Tensors side by side."""

import numpy as np

from kdfuse.ensemble.mixed.side_by_side import SideBySide


def test_tensors_become_flat_and_stand_in_order():
    ids = np.arange(6).reshape(3, 2)
    made = SideBySide()([ids, np.ones((3, 2, 2), "float32")])
    np.testing.assert_array_equal(made, np.concatenate([ids, np.ones((3, 4))], axis=1))
    assert SideBySide().compute_output_shape([(None, 2), (None, 2, 2)]) == (None, 6)
    assert SideBySide.from_config(SideBySide(name="s").get_config()).name == "s"
    assert SideBySide()([np.ones((3, 2), "float16")]).dtype == "float32"
