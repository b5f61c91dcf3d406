"""Sentence polarity: 10,662 sentences of film reviews, half of them in favour of the film."""

from pathlib import Path

import numpy as np

from kdfuse.data import Data
from kdfuse.datasets import files
from kdfuse.datasets.prepare import divided
from kdfuse.datasets.vocabulary import Vocabulary
from kdfuse.splits import ArraySplit, Split

ORIGIN = "https://raw.githubusercontent.com/dennybritz/cnn-text-classification-tf/master/data/rt-polaritydata/"
SHA256 = {
    "rt-polarity.neg": "2d11cfbc790f1cd96d78339f41ce53ced1efa83cd22d37d6788fa3fe3d17e2fd",
    "rt-polarity.pos": "4134882974a28d0c7b5151256f0e33a6169984ee7372c279e673f1114f475d58",
}
FOLDERS = ("", "rt-polaritydata/")
NAMES = ("negative", "positive")


def load_polarity(validation: float = 0.1, labels: int | None = None, seed: int = 0, words: int | None = 10000, length: int = 48) -> Data:
    """Inputs `(length,)` int32 numbers of words, labels 0 against and 1 for the film.

    The sentences come with their marks set apart by spaces and nearly all in lower case; a word is what white space separates. The
    training rows alone give the vocabulary: 0 is padding, 1 any other word, 2 the most frequent word. No two sentences are equal.

    The set has no official split. A tenth of the rows is the test split, drawn by class and the same for every seed; by default a
    tenth of the rest is for validation.

    Args:
        validation: share of the training rows to set aside, drawn by class; 0 for none.
        labels: keep only so many training rows, drawn by class; None for all. The rows that are left give the vocabulary.
        seed: of both draws.
        words: the most numbers there may be, padding and unknown among them; at least 3. None for every training word (about 19,000).
        length: of each row; at least 1. Longer sentences are cut at their end (1 in 300 at 48), shorter ones filled up with 0.

    Reference: Pang and Lee 2005, "Seeing stars", arXiv cs/0506075, the data set "sentence polarity v1.0".
    """
    sentences = _sentences(validation, labels, seed)
    vocabulary = _learn(sentences, words, length)

    def encoded(split: Split | None) -> Split | None:
        return ArraySplit(vocabulary.encode(split.x.tolist(), length), split.y) if isinstance(split, ArraySplit) else split

    train, validated, test = (encoded(split) for split in (sentences.train, sentences.validation, sentences.test))
    return sentences.with_splits(train=train, validation=validated, test=test)


def polarity_vocabulary(
    validation: float = 0.1, labels: int | None = None, seed: int = 0, words: int | None = 10000, length: int = 48
) -> Vocabulary:
    """The vocabulary of `load_polarity` with the same settings, to turn sentences of one's own into inputs."""
    return _learn(_sentences(validation, labels, seed), words, length)


def _learn(sentences: Data, words: int | None, length: int) -> Vocabulary:
    return Vocabulary.learn(sentences.train.head(sentences.train.rows or 0)[0].tolist(), words, length)


def _sentences(validation: float, labels: int | None, seed: int) -> Data:
    parts = [_read(name) for name in SHA256]
    x = np.array([sentence for part in parts for sentence in part])
    y = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return divided("polarity", x, y, NAMES, validation, labels, seed, parts=10)


def _read(name: str) -> list[str]:
    path = files.check(_file(name), SHA256[name])
    # Split at line ends alone: a sentence may hold other signs that `splitlines` takes for one.
    return [stripped for line in path.read_text(encoding="utf-8").split("\n") if (stripped := line.strip())]


def _file(name: str) -> Path:
    return files.find([folder + name for folder in FOLDERS]) or files.download(name, ORIGIN + name, SHA256[name])
