"""Data: the splits of a data set, what they are about, and whether they are fit to train on."""

import copy
import hashlib
import numbers
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from kdfuse import labels
from kdfuse.arrays import Structure, check_rows, in_order, leaves, map_leaves, same_structure, to_arrays
from kdfuse.settings import choose
from kdfuse.splits import ArraySplit, Split
from kdfuse.streams import StreamSplit

SPLITS = ("train", "validation", "test")


class Data:
    """Training, validation and test rows with what is known of them. Immutable.

    Args:
        train: `(x, y)`, `(x, y, sample_weight)` or, without labels, `(x, None)` of arrays (NumPy, pandas, TensorFlow, JAX,
            PyTorch, lists), each of them also a dict or tuple of arrays for several inputs or outputs; or a batched `tf.data.Dataset`
            or a `keras.utils.PyDataset` that gives such batches; or a `Split`. float64 becomes float32; integers, uint8 among them,
            stay as they are.
        validation: likewise; or a share in (0, 1) of `train` to set aside, by class where there are classes.
        test: likewise, or None. Of rows without labels in `train`, what the labels would be is told by `validation` or `test`.
        name: of the data set, for reports.
        task: `"auto"`, `"classification"`, `"binary"`, `"multilabel"` or `"regression"`; a dict or tuple of these for several
            outputs. Automatic: integer labels `(n,)` and rows that sum to 1 are classification, zeros and ones in one column
            binary, other rows of zeros and ones multilabel, the rest regression. A model with one unit for two such classes
            takes them as binary.
        class_names: names of the classes in the order of their numbers; also says how many there are where rare ones are missing.
        seed: of the split that a share asks for.

    Attributes:
        train, validation, test: `Split`, or None for the last two.
        task: what the labels are, with the structure of the labels.
        task_found: whether the labels told the task, and not the user.
        labelled: whether the training rows have labels. Without them a student can learn from a teacher alone.
        input_shape: shape of one input without the batch, with the structure of the inputs.

    Raises:
        ValueError: an empty split, unequal numbers of rows, NaN or infinity, labels out of range, an unbatched `tf.data.Dataset`.
            Arrays are checked in full, of a stream only the first batch.

    Example:
        data = Data(train=(x, y), validation=0.1, test=(x_test, y_test))
    """

    train: Split
    validation: Split | None
    test: Split | None
    name: str
    seed: int
    task: Structure
    task_found: bool
    class_names: tuple[str, ...] | None
    labelled: bool

    def __init__(
        self,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        name: str = "",
        task: Any = "auto",
        class_names: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if train is None:
            raise ValueError("`train`: expected data to train on. Received: None. Give `train=(x, y)`.")
        labelled = not (isinstance(train, list | tuple) and len(train) in (2, 3) and train[1] is None)
        told = None if labelled else _told(validation, test)
        first, second = _split(train if told is None else _with_labels(train, told), "train"), None
        set_task = labels.resolve(task, _sample(first).y if told is None else told.targets())
        if isinstance(validation, numbers.Real) and not isinstance(validation, bool) and labelled:
            first, second = labels.divide(first, float(validation), set_task, seed)
        elif validation is not None:
            second = _split(validation, "validation")
        names = None if class_names is None else tuple(str(one) for one in class_names)
        self.__dict__.update(train=first, validation=second, test=None if test is None else _split(test, "test"))
        self.__dict__.update(
            name=name, seed=seed, task=set_task, task_found=isinstance(task, str) and task == "auto", class_names=names, labelled=labelled
        )
        self._check_inputs()
        self._check()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Data is immutable: `{name}` cannot be set. Use `data.with_splits(train=...)` or make a new Data.")

    def __repr__(self) -> str:
        parts = [f"{split}={self.split(split)!r}" for split in SPLITS if self.split(split) is not None]
        return f"Data({', '.join([repr(self.name), *parts])}, task={self.task!r}, classes={self.classes!r})"

    @property
    def input_shape(self) -> Structure:
        """The shape of one input without the batch axis, with the structure of the inputs; None for an axis that is open."""
        if isinstance(self.train, StreamSplit):
            return self.train.input_shape
        return map_leaves(lambda leaf: tuple(leaf.shape[1:]), _sample(self.train).x)

    @cached_property
    def classes(self) -> Structure:
        """The units a last layer needs: classes for classification, else columns (1 for binary); for each output.

        For a stream of class numbers without `class_names` this reads the labels once.
        """
        known = None if self.class_names is None else len(self.class_names)
        if not self.labelled:
            other = self.validation or self.test
            assert other is not None
            return map_leaves(lambda one, task: labels.width(one, task, known), other.targets(), self.task)
        count_all = isinstance(self.train, StreamSplit) and known is None and self._sparse()
        y = self.train.targets() if count_all else _sample(self.train).y
        classes = map_leaves(lambda one, task: labels.width(one, task, known), y, self.task)
        if count_all:
            self._check_labels(y, classes, "train")
        return classes

    @property
    def indexable(self) -> bool:
        """Whether all splits are arrays, so that order, resume, caches and the fingerprint are exact."""
        return all(split.indexable for split in self._splits().values())

    @cached_property
    def fingerprint(self) -> str | None:
        """SHA-256 (hex) over the structure, dtypes, shapes and bytes of all splits; None for streams."""
        if not self.indexable:
            return None
        marks = [f"{name}:{_sample(split).fingerprint}" for name, split in self._splits().items()]
        return hashlib.sha256("|".join(marks).encode()).hexdigest()

    def split(self, name: str) -> Split | None:
        """The split `"train"`, `"validation"` or `"test"`."""
        split: Split | None = getattr(self, choose("name", name, SPLITS))
        return split

    def with_splits(self, **splits: Any) -> "Data":
        """A copy with some splits replaced; the task and the classes stay as they are.

        Args:
            splits: `train`, `validation`, `test`: what `Data` takes for them, or None to leave one out. Their inputs may have
                another structure than before, as when a technique adds what it computed for each row.
        """
        made = copy.copy(self)
        changes: dict[str, Split | None] = {}
        for name, value in splits.items():
            changes[choose("splits", name, SPLITS)] = None if value is None else _split(value, name)
        if changes.get("train", self.train) is None:
            raise ValueError("`train`: expected data to train on. Received: None. Leave it out to keep the present one.")
        classes = self.classes
        made.__dict__.pop("fingerprint", None)
        made.__dict__.update(changes, classes=classes, labelled=self.labelled or "train" in changes)
        made._check()
        return made

    def in_order(self, names: Sequence[str]) -> "Data":
        """A copy whose labels, which go by name, are a tuple in the order of `names`: that of a model's list of outputs."""
        made = copy.copy(self)
        known = {"classes": in_order(self.classes, names)} if "classes" in self.__dict__ or self.indexable else {}
        splits = {name: split.in_order(names) for name, split in self._splits().items()}
        made.__dict__.update(splits, task=in_order(self.task, names), fingerprint=self.fingerprint, **known)
        return made

    def with_task(self, task: Structure) -> "Data":
        """A copy whose labels mean something else, such as no and yes in place of two classes."""
        made = copy.copy(self)
        made.__dict__.pop("classes", None)
        made.__dict__.update(task=task, task_found=False)
        made._check()
        return made

    def example(self, rows: int = 2) -> Structure:
        """The inputs of the first `rows` training rows in NumPy."""
        return self.train.head(rows)[0]

    def sample(self, rows: int, seed: int = 0) -> Structure:
        """The inputs of training rows drawn without repeats, for rows may be in an order; of a stream the first. In NumPy.

        Args:
            rows: at least 1; fewer come where there are fewer.
            seed: of the draw.
        """
        split = self.train
        if isinstance(split, ArraySplit) and len(split) > rows:
            split = split.take(np.sort(np.random.default_rng(seed).permutation(len(split))[:rows]))
        return split.head(rows)[0]

    def _splits(self) -> dict[str, Split]:
        return {name: split for name in SPLITS if (split := self.split(name)) is not None}

    def _sparse(self) -> bool:
        pairs = zip(leaves(_sample(self.train).y), leaves(self.task), strict=True)
        return any(task == "classification" and labels.is_sparse(y) for (_, y), (_, task) in pairs)

    def _check_inputs(self) -> None:
        expected = _inputs(_sample(self.train))
        for name, split in self._splits().items():
            received = _inputs(_sample(split))
            if received != expected:
                raise ValueError(
                    f"`{name}` x: expected inputs as in `train`, {expected}. Received: {received}. Prepare both in the same way."
                )

    def _check(self) -> None:
        for name, split in self._splits().items():
            rows = _sample(split)
            if not same_structure(rows.y, self.task):
                expected, received = _places(self.task, "y"), _places(rows.y, "y")
                raise ValueError(f"`{name}` y: expected the outputs {expected}. Received: {received}. Give every split the same outputs.")
            if isinstance(rows.sample_weight, dict | tuple) and not same_structure(rows.sample_weight, self.task):
                expected, received = _places(self.task, "sample_weight"), _places(rows.sample_weight, "sample_weight")
                raise ValueError(
                    f"`{name}` sample_weight: expected one array for all outputs, or {expected}. Received: {received}. "
                    "Give ones for an output whose rows all count alike."
                )
        if not self.indexable and self.class_names is None and "classes" not in self.__dict__ and self._sparse():
            return  # To count the classes would read the whole stream: `classes` does so when it is asked for.
        for name, split in self._splits().items():
            self._check_labels(_sample(split).y, self.classes, name)
        if self.class_names is not None:
            wanted = 2 if self.task == "binary" else self.classes
            if len(self.class_names) != wanted:
                raise ValueError(
                    f"`class_names`: expected one name for each class of a single output, {wanted!r} of them. "
                    f"Received: {len(self.class_names)} names. Give as many names as classes (two for binary labels)."
                )

    def _check_labels(self, y: Structure, classes: Structure, name: str) -> None:
        tasks, counts = dict(leaves(self.task)), dict(leaves(classes))
        for place, one in leaves(y):
            labels.check(one, tasks[place], counts[place], f"`{name}` y{place}", self.class_names is not None)


def _split(value: Any, name: str) -> Split:
    if isinstance(value, Split):
        return value
    if hasattr(value, "element_spec") or (hasattr(value, "num_batches") and hasattr(value, "__getitem__")):
        return StreamSplit(value, name=name)
    if isinstance(value, list | tuple) and len(value) in (2, 3):
        return ArraySplit(*value, name=name)
    received = f"{type(value).__name__} of length {len(value)}" if isinstance(value, list | tuple) else type(value).__name__
    raise ValueError(
        f"`{name}`: expected (x, y), (x, y, sample_weight), a batched tf.data.Dataset or a keras.utils.PyDataset. "
        f"Received: {received}. Give `{name}=(x, y)`."
    )


def _told(validation: Any, test: Any) -> Split:
    """The split that tells what the labels of training rows without any would be."""
    for name, value in (("validation", validation), ("test", test)):
        if value is not None and not isinstance(value, numbers.Real):
            return _split(value, name)
    raise ValueError(
        "`train`: rows without labels need `validation` or `test` as data with labels, to tell what the labels would be. "
        f"Received: validation={validation!r}, test={test!r}. Give one of the two as (x, y)."
    )


def _with_labels(train: Any, told: Split) -> Any:
    """Training rows without labels with a label that stands for none: the first of another split."""
    count = check_rows(to_arrays(train[0], "`train` x", text=True), "`train` x")
    return (train[0], map_leaves(lambda leaf: np.repeat(leaf[:1], count, axis=0), told.head(1)[1]), *train[2:])


def _sample(split: Split) -> ArraySplit:
    return split.first if isinstance(split, StreamSplit) else split  # type: ignore[return-value]


def _places(structure: Structure, name: str) -> str:
    return ", ".join(place for place, _ in leaves(structure, name))


def _inputs(split: ArraySplit) -> str:
    # Lengths of sequences and sizes of images may differ from split to split, the number of features may not.
    def shape(leaf: Any) -> str:
        open_axes = ["any"] * (leaf.ndim - 1)
        if open_axes and (leaf.ndim > 2 or leaf.dtype.kind == "f"):
            open_axes[-1] = str(leaf.shape[-1])
        return f"({', '.join(open_axes)})"

    return ", ".join(sorted(f"{place} {shape(leaf)}" for place, leaf in leaves(split.x, "x")))
