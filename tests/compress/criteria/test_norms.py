import numpy as np
import pytest

from kdfuse.compress.criteria.norms import L1, L2


def unit(values):
    return values / values.mean()


def test_l1_and_l2_of_both_directions(material, of):
    conv, dense, head = (material.model.get_layer(name).kernel.numpy().astype("float64") for name in ("conv", "dense", "head"))
    rows = dense.reshape(9, 4, 6)
    for criterion, norm in ((L1, lambda w, axis: np.abs(w).sum(axis)), (L2, lambda w, axis: np.sqrt((w**2).sum(axis)))):
        incoming, outgoing = unit(norm(conv, (0, 1, 2))), unit(norm(rows, (0, 2)))
        np.testing.assert_allclose(of(criterion("incoming"), "conv"), incoming)
        np.testing.assert_allclose(of(criterion("outgoing"), "conv"), outgoing)
        np.testing.assert_allclose(of(criterion(), "conv"), (incoming + outgoing) / 2)
        np.testing.assert_allclose(of(criterion("both"), "dense"), (unit(norm(dense, 0)) + unit(norm(head, 1))) / 2)


def test_an_unknown_direction():
    with pytest.raises(ValueError, match="`direction`: expected one of.*Did you mean 'incoming'"):
        L1("incomming")
