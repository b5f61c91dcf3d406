"""Figures of their own."""

import sys

from kdfuse.tracking.canvas import canvas, plain


def test_a_canvas_has_its_panels_and_is_not_of_pyplot():
    figure, grid = canvas(2, 3, 6.0, 4.0)
    assert grid.shape == (2, 3) and tuple(figure.get_size_inches()) == (6.0, 4.0)
    if "matplotlib.pyplot" in sys.modules:
        assert figure not in map(sys.modules["matplotlib.pyplot"].figure, sys.modules["matplotlib.pyplot"].get_fignums())


def test_plain_axes_have_a_frame_on_two_sides():
    axes = canvas(1, 1, 3.0, 3.0)[1][0][0]
    plain(axes)
    assert [axes.spines[side].get_visible() for side in ("top", "right", "left", "bottom")] == [False, False, True, True]
