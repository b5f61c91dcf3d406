"""Words to numbers: a vocabulary learnt from training sentences."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PADDING, UNKNOWN = 0, 1
FIRST = 2
"""The number of the most frequent word."""


@dataclass(frozen=True)
class Vocabulary:
    """The words that have a number of their own, the most frequent first: the first of them is number 2.

    0 fills up short sentences, 1 stands for every other word. Words are what white space separates, in lower case.
    """

    words: tuple[str, ...]

    @classmethod
    def learn(cls, sentences: Iterable[str], size: int | None = None, length: int | None = None) -> "Vocabulary":
        """The vocabulary of `sentences`.

        Args:
            sentences: of the training split alone.
            size: how many numbers there are at most, 0 and 1 among them; None for every word. The rarest words have to go; of
                equally frequent ones the later in the alphabet.
            length: words of a sentence beyond so many are not counted, as `encode` leaves them out.

        Raises:
            ValueError: a size below 3 or a length below 1.
        """
        if size is not None:
            _integer("words", size, FIRST + 1)
        if length is not None:
            _integer("length", length, 1)
        counts = Counter(word for sentence in sentences for word in sentence.lower().split()[:length])
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[: None if size is None else size - FIRST]))

    def __len__(self) -> int:
        """How many numbers there are, padding and unknown among them."""
        return len(self.words) + FIRST

    def encode(self, sentences: Sequence[str], length: int) -> np.ndarray:
        """The sentences as int32 `(sentences, length)`: cut at the end, or filled up with 0 at the end."""
        _integer("length", length, 1)
        numbers = np.full((len(sentences), length), PADDING, np.int32)
        for row, sentence in zip(numbers, sentences, strict=True):
            found = [self._numbers.get(word, UNKNOWN) for word in sentence.lower().split()[:length]]
            row[: len(found)] = found
        return numbers

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=FIRST)}


def _integer(argument: str, value: int, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"`{argument}`: expected an integer of at least {low}. Received: {argument}={value!r}. Give a larger number.")
