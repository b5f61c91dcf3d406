"""Rows without labels: what the teacher decides stands where labels are asked for."""

from typing import Any

import numpy as np

from kdfuse.arrays import Structure, map_leaves
from kdfuse.data import Data
from kdfuse.distill.cache import Cache, targets
from kdfuse.distill.structure import aligned, flat
from kdfuse.distill.teachers import Teacher
from kdfuse.splits import ArraySplit


def check_unlabelled(technique: Any) -> None:
    """Check that a distillation can do without labels.

    Raises:
        ValueError: its settings ask for them.
    """
    if technique.label_weight:
        raise ValueError(
            f"`label_weight`: the training rows have no labels. Received: label_weight={technique.label_weight!r}. Give label_weight=0; "
            "kdfuse.HardLabels() learns what the teacher decides."
        )
    if technique.control:
        raise ValueError("`control`: without labels there is nothing to train a student on that has no teacher. Give control=False.")


def decided(data: Data, teacher: Teacher) -> Data:
    """The data with what a teacher decides as the labels of the training rows.

    Args:
        data: with training rows in arrays, without labels.
        teacher: whose most likely classes, or whose values of a regression, are taken.

    Returns:
        Data that counts as labelled, its labels in the form that the other splits have.
    """
    split: Any = data.train
    logits = targets(teacher, split, cache=Cache()).outputs
    places = iter(aligned("the teacher's outputs", logits, split.y))
    tasks = iter(flat(data.task))
    y = map_leaves(lambda form: _labels(next(places), form, next(tasks)), split.y)
    return data.with_splits(train=ArraySplit(split.x, y, split.sample_weight, name="train"))


def _labels(logits: np.ndarray, form: Structure, task: str) -> np.ndarray:
    if task == "regression":
        return np.asarray(logits, dtype=np.float32).reshape(form.shape)
    choice = np.argmax(logits, axis=-1)
    if task == "classification" and form.ndim == logits.ndim and form.shape[-1] == logits.shape[-1] > 1:
        return np.eye(logits.shape[-1], dtype=form.dtype)[choice]
    return choice.astype(form.dtype).reshape(form.shape)
