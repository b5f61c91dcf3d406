import numpy as np
import pytest

from kdfuse.measure.quality import agreement, calibration_error, confusion, quality


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def case(rows=200, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, classes)).astype("float32") * 2
    y = np.where(rng.random(rows) < 0.6, z.argmax(-1), rng.integers(0, classes, rows))
    return z, y, rng.random(rows) + 0.1


def by_hand(p, y, w=None):
    """Written from the definitions, one row and one class at a time."""
    w = np.ones(len(y)) if w is None else w
    guess = p.argmax(-1)
    scores = []
    for c in range(p.shape[-1]):
        hit, made, true = (w * ((guess == c) & (y == c))).sum(), (w * (guess == c)).sum(), (w * (y == c)).sum()
        if made + true > 0:
            scores.append(2 * hit / (made + true))
    error = 0.0
    confidence = p.max(-1)
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            share = w[inside].sum()
            error += share / w.sum() * abs((w * (guess == y))[inside].sum() / share - (w * confidence)[inside].sum() / share)
    return {
        "accuracy": (w * (guess == y)).sum() / w.sum(),
        "macro_f1": np.mean(scores),
        "log_loss": -(w * np.log(p[np.arange(len(y)), y])).sum() / w.sum(),
        "ece": error,
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("head", ["logits", "softmax"])
def test_classification_is_as_defined(head, weighted):
    z, y, w = case()
    p = softmax(z.astype("float64"))
    found = quality(z if head == "logits" else p, y, head, "classification", w if weighted else None)
    assert found == pytest.approx(by_hand(p, y, w if weighted else None), rel=1e-6)


def test_kinds_of_targets_agree():
    z, y, w = case()
    expected = quality(z, y, "logits", "classification", w)
    one_hot = np.eye(4, dtype="float32")[y]
    for targets in (y[:, None], y.astype("float32"), y.astype("uint8"), one_hot, one_hot * 0.9 + 0.025):
        assert quality(z, targets, "logits", "classification", w[:, None]) == expected


@pytest.mark.parametrize("targets", [lambda y: y, lambda y: y[:, None], lambda y: y.astype("float32")[:, None], lambda y: np.eye(2)[y]])
def test_binary(targets):
    z, y, _ = case(classes=1)
    y = (np.random.default_rng(1).random(200) < 1 / (1 + np.exp(-z[:, 0]))).astype(int)
    p = 1 / (1 + np.exp(-z.astype("float64")))
    expected = by_hand(np.concatenate([1 - p, p], -1), y)
    assert quality(z, targets(y), "logits", "binary") == pytest.approx(expected, rel=1e-6)
    assert quality(p, targets(y), "sigmoid", "binary") == pytest.approx(expected, rel=1e-6)
    assert quality(p[:, 0], targets(y), "sigmoid", "binary") == pytest.approx(expected, rel=1e-6)


def test_multilabel():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(100, 3)), rng.integers(0, 2, (100, 3))
    p = 1 / (1 + np.exp(-z))
    found = quality(p, y, "sigmoid", "multilabel")
    guess = p > 0.5
    f1 = [2 * (guess[:, i] & (y[:, i] == 1)).sum() / (guess[:, i].sum() + y[:, i].sum()) for i in range(3)]
    assert found["accuracy"] == pytest.approx((guess == y).mean())
    assert found["macro_f1"] == pytest.approx(np.mean(f1))
    assert found["log_loss"] == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    assert quality(z, y, "sigmoid_logits", "multilabel") == pytest.approx(found)
    assert quality(p, y, "sigmoid", "multilabel", np.ones(100)) == pytest.approx(found)
    nothing = quality(np.full((4, 2), 0.1), np.zeros((4, 2)), "sigmoid", "multilabel")
    assert "macro_f1" not in nothing and nothing["accuracy"] == 1


def test_regression():
    rng = np.random.default_rng(0)
    y, w = rng.normal(size=50), rng.random(50)
    guess = y + rng.normal(size=50) * 0.3
    found = quality(guess[:, None], y, "regression", "regression", w)
    mean = (w * y).sum() / w.sum()
    assert found["mae"] == pytest.approx((w * abs(guess - y)).sum() / w.sum())
    assert found["rmse"] == pytest.approx(((w * (guess - y) ** 2).sum() / w.sum()) ** 0.5)
    assert found["r2"] == pytest.approx(1 - (w * (guess - y) ** 2).sum() / (w * (y - mean) ** 2).sum())
    several = quality(np.stack([guess, guess], -1), np.stack([y, y], -1), "regression", "regression")
    assert several == pytest.approx(quality(guess, y, "regression", "regression"))
    assert set(quality(guess, np.full(50, 2.0), "regression", "regression")) == {"mae", "rmse"}


def test_steps_count_one_by_one_and_masked_ones_not():
    z, y, _ = case(rows=60)
    expected = quality(z[:40], y[:40], "logits", "classification")
    outputs, targets, mask = z.reshape(3, 20, 4), y.reshape(3, 20).copy(), np.ones((3, 20), bool)
    mask[2] = False
    targets[2] = -1  # what padding often holds
    assert quality(outputs, targets, "logits", "classification", mask) == pytest.approx(expected)
    assert quality(outputs, targets, "logits", "classification", np.array([1.0, 1.0, 0.0])) == pytest.approx(expected)


def test_one_class_alone():
    z, _, _ = case(rows=20)
    y = np.full(20, 2)
    p = softmax(z.astype("float64"))
    assert quality(z, y, "logits", "classification") == pytest.approx(by_hand(p, y), rel=1e-6)
    assert quality(np.eye(4)[y] * 9, y, "logits", "classification")["macro_f1"] == 1


def test_calibration_of_a_known_case():
    # Two bins: 10 rows at 0.9 of which 5 are right, 10 at 0.6 of which 6 are right.
    confidence = np.repeat([0.9, 0.6], 10)
    correct = np.array([1] * 5 + [0] * 5 + [1] * 6 + [0] * 4)
    assert calibration_error(confidence, correct) == pytest.approx(0.5 * 0.4 + 0.5 * 0.0)
    assert calibration_error(np.array([0.0, 1.0]), np.array([0, 1])) == 0
    assert calibration_error(np.array([1 / 15]), np.array([1])) == pytest.approx(14 / 15)


def test_extreme_logits_stay_finite():
    found = quality(np.array([[1e4, -1e4], [-1e4, 1e4]], "float32"), np.array([1, 1]), "logits", "classification")
    assert found["accuracy"] == 0.5 and np.isfinite(found["log_loss"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite(bad):
    z, y, _ = case(rows=8)
    z[3, 1] = bad
    with pytest.raises(ValueError, match=r"`outputs`.*NaN or infinity in 1 of 8 rows, first in row 3"):
        quality(z, y, "logits", "classification")


@pytest.mark.parametrize(
    ("targets", "weights", "message"),
    [
        (np.array([0, 1, 9, 0]), None, "class numbers 0 to 3"),
        (np.array([0, 1, -1, 0]), None, "class numbers"),
        (np.array([0.5, 1, 1, 0]), None, "class numbers"),
        (np.zeros(5), None, "shape"),
        (np.zeros((4, 3)), None, "one-hot rows"),
        (np.zeros(4), np.zeros(4), "not all of them 0"),
        (np.zeros(4), -np.ones(4), "negative"),
        (np.zeros(4), np.ones(3), "`sample_weight`: expected the shape"),
    ],
)
def test_what_does_not_fit(targets, weights, message):
    with pytest.raises(ValueError, match=message):
        quality(case(rows=4)[0], targets, "logits", "classification", weights)


def test_agreement():
    a, b = np.array([[1.0, 0], [0, 1], [0, 1]]), np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]])
    assert agreement(a, "logits", b, "softmax") == pytest.approx(2 / 3)
    assert agreement(a, "regression", b, "softmax") is None
    assert agreement(np.array([[2.0], [-1.0]]), "logits", np.array([[0.4], [0.1]]), "sigmoid") == 0.5
    assert agreement(a, "logits", np.array([[0.1], [0.9], [0.2]]), "sigmoid") == pytest.approx(2 / 3)  # two columns against one
    assert agreement(a, "sigmoid_logits", b, "sigmoid") == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match="shape"):
        agreement(a, "logits", b[:2], "softmax")


def test_confusion():
    rows = confusion(np.eye(3)[[0, 1, 1, 2]], np.array([0, 1, 2, 2]), "softmax")
    assert rows == [{"true": "0", "0": 1, "1": 0, "2": 0}, {"true": "1", "0": 0, "1": 1, "2": 0}, {"true": "2", "0": 0, "1": 1, "2": 1}]
    named = confusion(np.array([[3.0], [-2.0]]), np.array([1, 1]), "logits", ["no", "yes"])
    assert named == [{"true": "no", "no": 0, "yes": 0}, {"true": "yes", "no": 1, "yes": 1}]
    truths = confusion(np.array([[3.0], [-2.0]]), np.array([1, 1]), "logits", ["false", "true"])
    assert truths == [{"class": "false", "false": 0, "true": 0}, {"class": "true", "false": 1, "true": 1}]
    assert confusion(np.eye(2), np.array([0, 1]), "softmax", ["a", "a"])[1] == {"true": "1", "0": 0, "1": 1}
