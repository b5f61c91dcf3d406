import hashlib
from pathlib import Path

import numpy as np
import pytest

from kdfuse.datasets import files, polarity
from kdfuse.datasets.load import load
from kdfuse.datasets.polarity import load_polarity, polarity_vocabulary
from kdfuse.datasets.vocabulary import Vocabulary

needs_files = pytest.mark.skipif(
    files.find(["rt-polarity.pos"]) is None or files.find(["rt-polarity.neg"]) is None,
    reason="needs rt-polarity.pos and rt-polarity.neg in KDFUSE_DATA or in the Keras cache",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small files like the published ones, and their hashes in the place of those."""
    hashes = {}
    for name, word in (("rt-polarity.neg", "bad"), ("rt-polarity.pos", "good")):
        # A sign that `str.splitlines` takes for the end of a line stands inside a sentence.
        lines = [f"film {number} is {word} , caf\u00e9\u0085 {'very ' * (number % 3)}{word} " for number in range(40)]
        (tmp_path / name).write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")
        hashes[name] = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    monkeypatch.setattr("kdfuse.datasets.polarity.SHA256", hashes)
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path))
    return tmp_path


def test_the_training_rows_alone_give_the_vocabulary(folder: Path) -> None:
    data = load_polarity(validation=0.25, length=12)
    assert [split.rows for split in (data.train, data.validation, data.test)] == [54, 18, 8]  # type: ignore[union-attr]
    assert (data.input_shape, data.task, data.classes, data.class_names) == ((12,), "classification", 2, ("negative", "positive"))
    x = data.train.x  # type: ignore[attr-defined]
    vocabulary = polarity_vocabulary(validation=0.25, length=12)
    assert x.dtype == np.int32 and x.max() == len(vocabulary) - 1 and not (x == 1).any()
    # "bad" stands for itself and the number 0 is nowhere but at the end.
    bad, good = vocabulary.encode(["bad good"], 2)[0]
    for split in (data.train, data.validation, data.test):
        rows = split.x  # type: ignore[union-attr]
        np.testing.assert_array_equal((rows == good).any(axis=1), split.y == 1)  # type: ignore[union-attr]
        np.testing.assert_array_equal((rows == bad).any(axis=1), split.y == 0)  # type: ignore[union-attr]
        assert (np.diff((rows == 0).astype(int), axis=1) >= 0).all()
    seen = {int(word) for word in vocabulary.words if word.isdigit()}
    assert len(seen) < 40 and (data.test.x == 1).any()  # type: ignore[union-attr]


def test_words_and_length(folder: Path) -> None:
    few = load_polarity(words=6, length=3)
    assert few.input_shape == (3,) and few.train.x.max() == 5  # type: ignore[attr-defined]
    # Words that only stand where rows are cut get no number.
    assert polarity_vocabulary(length=3).words[:2] == ("film", "is")
    assert "good" not in polarity_vocabulary(length=3).words and "good" in polarity_vocabulary(length=4).words
    assert len(polarity_vocabulary(words=None)) > len(polarity_vocabulary(words=6)) == 6
    for wrong in ({"words": 2}, {"length": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`: expected an integer of at least"):
            load_polarity(**wrong)


def test_the_test_rows_are_the_same_for_every_seed(folder: Path) -> None:
    one, other = load_polarity(seed=1), load_polarity(seed=2)
    np.testing.assert_array_equal(one.test.y, other.test.y)  # type: ignore[union-attr]
    assert one.train.fingerprint != other.train.fingerprint  # type: ignore[attr-defined]
    assert one.fingerprint == load_polarity(seed=1).fingerprint
    fewer = load_polarity(seed=1, labels=10)
    assert fewer.train.rows == 10 and fewer.test.rows == 8  # type: ignore[union-attr]
    assert len(polarity_vocabulary(seed=1, labels=10)) < len(polarity_vocabulary(seed=1))


def test_a_changed_file_is_refused(folder: Path) -> None:
    path = folder / "rt-polarity.pos"
    path.write_text(path.read_text(encoding="utf-8") + "one more\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"rt-polarity\.pos: expected the published file"):
        load_polarity()


@needs_files
def test_the_real_set() -> None:
    data = load("polarity")
    assert [split.rows for split in (data.train, data.validation, data.test)] == [8636, 960, 1066]  # type: ignore[union-attr]
    assert np.bincount(data.test.y).tolist() == [533, 533]  # type: ignore[union-attr]
    x = data.train.x  # type: ignore[attr-defined]
    assert x.max() == 9999 and (x[:, 0] > 0).all()
    # The vocabulary covers more than nine in ten words of sentences it has not seen.
    for split in (data.validation, data.test):
        assert 0.05 < (split.x == 1).sum() / (split.x > 0).sum() < 0.1  # type: ignore[union-attr]


@needs_files
def test_the_real_sentences_are_told_from_their_files() -> None:
    path = files.find(["rt-polarity.pos"])
    assert path is not None and files.digest(path) == polarity.SHA256["rt-polarity.pos"]
    lines = path.read_bytes().decode("utf-8").split("\n")
    vocabulary = polarity_vocabulary()
    data = load("polarity")
    encoded = {row.tobytes() for row in vocabulary.encode(lines[:-1], 48)}
    positive = [row for split in (data.train, data.validation, data.test) for row, y in zip(split.x, split.y, strict=True) if y]  # type: ignore[union-attr]
    assert len(positive) == 5331 == len(lines) - 1 and all(row.tobytes() in encoded for row in positive)
    assert isinstance(vocabulary, Vocabulary) and vocabulary.words[:3] == (".", ",", "the")
