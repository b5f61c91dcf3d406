from typing import Any

import numpy as np
import pytest

from kdfuse.datasets.vocabulary import Vocabulary

SENTENCES = ["a good , good film", "A bad film", "a bore"]


def test_the_most_frequent_words_come_first_and_ties_by_the_alphabet() -> None:
    vocabulary = Vocabulary.learn(SENTENCES)
    assert vocabulary.words == ("a", "film", "good", ",", "bad", "bore")
    assert len(vocabulary) == 8
    assert Vocabulary.learn(SENTENCES, size=4).words == ("a", "film")
    assert Vocabulary.learn(SENTENCES, length=1).words == ("a",)


def test_sentences_become_numbers_cut_and_filled_at_the_end() -> None:
    vocabulary = Vocabulary.learn(SENTENCES)
    numbers = vocabulary.encode(["GOOD film", "an awful film , a bore"], 4)
    assert numbers.dtype == np.int32
    assert numbers.tolist() == [[4, 3, 0, 0], [1, 1, 3, 5]]
    assert vocabulary.encode([], 4).shape == (0, 4)


@pytest.mark.parametrize(("argument", "value"), [("size", 2), ("size", True), ("size", 2.5), ("length", 0)])
def test_impossible_sizes(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{'words' if argument == 'size' else argument}`: expected an integer of at least"):
        Vocabulary.learn(SENTENCES, **{argument: value})
    with pytest.raises(ValueError, match="`length`"):
        Vocabulary.learn(SENTENCES).encode(SENTENCES, 0)
