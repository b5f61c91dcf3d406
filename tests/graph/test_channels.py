import keras
import numpy as np
import pytest

from kdfuse.graph.channels import Axis, Channels, Member, NotFollowed, Weight, rows, spread, taken


def weight(value, axes):
    return Weight(keras.Variable(value), axes)


def test_united_ids_have_one_root_and_one_reason():
    channels = Channels()
    a, b, c = channels.new(3), channels.new(3), channels.new(1)
    channels.unite(a, b)
    channels.unite(b[:1], c)
    assert channels.roots(np.concatenate([a, b, c])).tolist() == [0, 1, 2, 0, 1, 2, 0] and len(channels) == 7
    channels.protect(b[1:2], "why")
    channels.protect(a[1:2], "later")
    channels.protect(c, "first", first=True)
    assert channels.reasons == {0: "first", 1: "why"}
    with pytest.raises(NotFollowed, match="3 channels with 1"):
        channels.unite(a, c)


def test_slots_of_several_uses_are_united():
    channels, member = Channels(), Member(None, "dense")
    first, again = channels.new(2), channels.new(2)
    assert channels.slot(member, "in", first) is first and channels.slot(member, "in", again) is first
    assert channels.roots(again).tolist() == first.tolist()
    assert channels.made(member, "out", 3) is channels.made(member, "out", 3) and member.made == ("out",)
    assert channels.stay([1])(again).tolist() == [True, False]


def test_rows_spread_and_taken_of_a_plain_kernel():
    value = np.arange(12.0, dtype="float32").reshape(3, 4)
    channels = Channels()
    inside, made = channels.new(3), channels.new(4)
    kernel = weight(value, {0: Axis("in", "in", inside), 1: Axis("out", "out", made)})
    np.testing.assert_array_equal(rows(kernel, 1, value)[1], value.T)
    np.testing.assert_array_equal(spread(kernel, 0, np.array([1, 0, 2.0])) * value, value * [[1], [0], [2]])
    np.testing.assert_array_equal(taken(kernel, value, channels.stay([1, 3, 6])), value[[0, 2]][:, [1, 2]])


def test_a_grouped_kernel_reads_other_inputs_in_each_group():
    value = np.arange(1, 13, dtype="float32").reshape(1, 2, 6)  # 2 groups: 2 inputs and 3 outputs each
    channels = Channels()
    inside, made = channels.new(4), channels.new(6)
    kernel = weight(value, {1: Axis("in", "in", inside.reshape(2, 2)), 2: Axis("out", "out", made)})
    ids, lines = rows(kernel, 1, value)
    assert ids.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(lines, [[1, 2, 3], [7, 8, 9], [4, 5, 6], [10, 11, 12]])
    np.testing.assert_array_equal(spread(kernel, 1, np.array([[1, 2], [3, 4.0]])), [[[1, 1, 1, 3, 3, 3], [2, 2, 2, 4, 4, 4]]])
    # Input 0 of the first group and input 1 of the second go, and the first output of each.
    np.testing.assert_array_equal(taken(kernel, value, channels.stay([0, 3, 4, 7])), [[[8, 9, 5, 6]]])
