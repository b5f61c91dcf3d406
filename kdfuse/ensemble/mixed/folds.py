"""Out-of-fold predictions: what members say of rows that they were not trained on."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from kdfuse import labels
from kdfuse.data import Data
from kdfuse.ensemble.members import Member, take
from kdfuse.fitting.compiled import carry_compile
from kdfuse.graph.renew import renew
from kdfuse.measure.predict import one_pass
from kdfuse.splits import ArraySplit


def divisions(split: ArraySplit, task: Any, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each fold the rows to train on and the rows that it predicts: by class where there are classes.

    Args:
        split: the rows.
        task: what the labels are; of several outputs the first with classes counts.
        folds: how many, from 2 to the number of rows.
        seed: of the draw.
    """
    classes = labels.strata(split.y, task)
    rows = np.zeros(len(split))
    if classes is None or np.unique(classes, return_counts=True)[1].max() < folds:
        return list(KFold(folds, shuffle=True, random_state=seed).split(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with fewer rows than folds: some fold predicts none of it
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, classes))


def out_of_fold(
    models: Sequence[keras.Model], data: Data, training: Any, folds: int, seed: int, graph: Callable[[Sequence[Member]], keras.Model]
) -> np.ndarray:
    """What `graph` of new members gives for each training row, the members being trained on the other folds.

    Args:
        models: of which the architectures count, and what they are compiled with.
        data: with arrays in the training split. The validation split is as it was, for early stopping.
        training: a trainer.
        folds: how many.
        seed: of the folds and the new weights.
        graph: makes a model from inputs to `[rows, columns]` of members.
    """
    split = data.train
    assert isinstance(split, ArraySplit)
    found: np.ndarray | None = None
    for fold, (kept, held) in enumerate(divisions(split, data.task, folds, seed)):
        part = data.with_splits(train=split.take(kept), test=None)
        again = [retrained(model, part, training, _seed(seed, fold, place)) for place, model in enumerate(models)]
        values = one_pass(graph(take(again, data)), split.take(held)).outputs
        found = np.empty((len(split), *values.shape[1:]), "float32") if found is None else found
        found[held] = values
    assert found is not None
    return found


def retrained(model: keras.Model, data: Data, training: Any, seed: int) -> keras.Model:
    """The architecture of `model` with new weights, trained on `data`."""
    fresh = renew(model, seed, data.example(2))
    carry_compile(model, fresh)
    student = training.private(fresh, data)
    training.fit(student, data)
    made: keras.Model = training.public(student, data)
    return made


def _seed(*places: int) -> int:
    return int(np.random.default_rng(places).integers(2**31))
