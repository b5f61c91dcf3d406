"""What every loss between features has in common."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from kdfuse.distill.losses.base import Loss, Tensor, mean_over_batch
from kdfuse.distill.projectors import matched_shapes, matching, projector
from kdfuse.graph.heads import HEADS
from kdfuse.settings import suggest

Layers = str | tuple[str, ...] | None
Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("kdfuse")
class FeatureLoss(Loss):
    """A loss between what layers inside the teacher and the student give, their features.

    A loss writes `per_sample`, or `compare` where a sample's loss depends on the batch. The rest is here: several layers,
    whose losses are summed, sample weights, masks, dtypes, and features of different shapes. Sizes of images and lengths
    of sequences are brought to the smaller one by averaging, features of different ranks are averaged over all axes
    but the channels. Where a loss says `projects`, a linear map that is trained with the student brings its channels to the
    teacher's; it is no part of the student that comes back.

    Inside `keras.distillation.Distiller` a loss works where features have one shape and need no trained part.

    Args:
        teacher_layer_name: a layer of the teacher, or several, by the names that `kdfuse.graph.taps.Taps` knows. None: what
            goes into the layer of the head.
        student_layer_name: as many layers of the student.
    """

    needs = tuple(dict.fromkeys(head.removesuffix("_logits") for head in HEADS))
    matches: ClassVar[bool] = True
    """Whether the features of a pair are brought to one rank and the same sizes. Relations between samples need no such thing."""
    projects: ClassVar[bool] = False
    """Whether the student's channels are brought to the teacher's number of channels."""
    needs_parts: ClassVar[bool] = False
    """Whether the loss always has trained parts, so that it works in kdfuse's distillation alone."""
    needs_rows: ClassVar[bool] = False
    """Whether `compare` takes the numbers of the batch's rows in the training split."""

    def __init__(self, teacher_layer_name: Layers = None, student_layer_name: Layers = None) -> None:
        super().__init__()
        self.teacher_layer_name, self.student_layer_name = _layers(teacher_layer_name), _layers(student_layer_name)
        if len(self.teacher_layers) != len(self.student_layers):
            raise ValueError(
                f"`student_layer_name`: expected as many layers as `teacher_layer_name` has, {len(self.teacher_layers)}. "
                f"Received: student_layer_name={student_layer_name!r}."
            )
        self.projectors: list[keras.Layer | None] = []
        self.built = False

    @property
    def teacher_layers(self) -> tuple[str | None, ...]:
        """The teacher's layers, as many as there are pairs."""
        return self.teacher_layer_name if isinstance(self.teacher_layer_name, tuple) else (self.teacher_layer_name,)

    @property
    def student_layers(self) -> tuple[str | None, ...]:
        """The student's layers, in the same order."""
        return self.student_layer_name if isinstance(self.student_layer_name, tuple) else (self.student_layer_name,)

    def per_sample(self, teacher_features: Tensor, student_features: Tensor, *labels: Tensor) -> Tensor:
        """The loss of each sample, for one pair of layers.

        Args:
            teacher_features: float32 `[batch, ..., channels]`.
            student_features: float32 `[batch, ..., channels]`, of the same sizes; of as many channels where the loss `projects`.
            *labels: nothing.

        Returns:
            `[batch]`, or `[batch, ...]` to be averaged over the other axes.
        """
        raise RuntimeError(f"{type(self).__name__} is on features and writes neither `per_sample` nor `compare`. Write one of them.")

    def compare(self, teacher_features: Tensor, student_features: Tensor, weights: Tensor, place: int, **context: Any) -> Tensor:
        """The weighted loss of each sample, for the pair of layers number `place`.

        What a loss on relations within the batch overrides. A sample of weight 0 must have no part in it.

        Args:
            teacher_features: as in `per_sample`.
            student_features: as in `per_sample`.
            weights: float32 `[batch]`, from 0; ones where there are no sample weights.
            place: of the pair, from 0.
            **context: `labels` (int32 `[batch]` or None), `mask` (float32 `[batch, steps]` or None: 0 where features are left out) and,
                where the loss `needs_rows`, `rows` (int32 `[batch]`).

        Returns:
            `[batch]`.
        """
        return weights * row_means(self.per_sample(teacher_features, student_features), context.get("mask"))

    def compare_all(self, pairs: Sequence[tuple[Tensor, Tensor]], weights: Tensor, **context: Any) -> Tensor:
        """The weighted loss of each sample, summed over the pairs of layers. What a loss that joins the layers overrides.

        Args:
            pairs: the teacher's and the student's features of each pair, as in `compare`.
            weights: as in `compare`.
            **context: as in `compare`; in place of `mask` `masks`, one for each pair.

        Returns:
            `[batch]`.
        """
        masks = context.pop("masks", [None] * len(pairs))
        return sum(self.compare(*pair, weights, place, mask=masks[place], **context) for place, pair in enumerate(pairs))

    def build(self, teacher_shapes: Sequence[Shape], student_shapes: Sequence[Shape], rows: int | None = None) -> None:
        """Make the trained parts of an attached copy. A loss with parts of its own extends it.

        Args:
            teacher_shapes: of the features of each layer, the batch axis first.
            student_shapes: likewise.
            rows: of the training split, where the loss `needs_rows`.
        """
        del rows
        self.projectors = []
        for place, (own, other) in enumerate(zip(teacher_shapes, student_shapes, strict=True)):
            own, other = matched_shapes(own, other) if self.matches else (own, other)
            needed = self.projects and own[-1] != other[-1]
            self.projectors.append(projector(other, own[-1], f"{self.name}_projector_{place}", seed=place) if needed else None)
        self.parts = [layer for layer in self.projectors if layer is not None]
        self.built = True

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        sample_weight: Any = None,
        mask: Any = None,
        labels: Any = None,
        rows: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            teacher_outputs: features `[batch, ..., channels]`, or a list of them, one for each layer.
            student_outputs: likewise.
            sample_weight: None, or `[batch]`; further axes are averaged.
            mask: bool `[batch, steps]`, or a list of them for each layer: steps that are left out. Features are 0 there in both, and
                a mean over steps is over the others. By default the Keras masks of `student_outputs`.
            labels: None, or class numbers or one-hot rows.
            rows: None, or the numbers of the rows `[batch]`.
            **kwargs: ignored, for callers that know more.

        Returns:
            A scalar: the weighted mean over the batch, summed over the pairs of layers.
        """
        del kwargs
        self.validate_outputs(teacher_outputs, student_outputs)
        pairs, kept = [], []
        for place, (teacher, student) in enumerate(self.pairs(teacher_outputs, student_outputs)):
            steps = mask[place] if isinstance(mask, list | tuple) else mask
            steps = getattr(student, "_keras_mask", None) if steps is None else steps
            teacher, student = (_unmasked(keras.ops.cast(features, "float32"), steps) for features in (teacher, student))
            if self.matches:
                teacher, student = matching(teacher, student)
                steps = _matching_mask(steps, student)
            layer = self.projectors[place] if self.projectors else None
            student = student if layer is None else layer(student)
            if self.matches:  # again, for features that were longer than the mask, and for the projector's bias
                teacher, student = (_unmasked(features, steps) for features in (teacher, student))
            pairs.append((teacher, student))
            kept.append(None if steps is None else keras.ops.cast(steps, "float32"))
        weights = _row_weights(sample_weight, pairs[0][1])
        return mean_over_batch(self.name, self.compare_all(pairs, weights, masks=kept, labels=_numbers(labels), rows=rows))

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that the features fit each other and this loss.

        Raises:
            ValueError: they do not.
        """
        if self.needs_parts and not self.built:
            raise ValueError(f"{type(self).__name__} trains parts of its own, which only kdfuse does. Use it in kdfuse.Distill.")
        for teacher, student in self.pairs(teacher_outputs, student_outputs):
            own, other = tuple(teacher.shape), tuple(student.shape)
            if self.matches:
                own, other = matched_shapes(own, other)
            if self.projects and not self.built and own[-1] != other[-1]:
                raise ValueError(
                    f"{type(self).__name__}: the teacher's features have {own[-1]} channels, the student's {other[-1]}. In kdfuse.Distill "
                    "a projector is trained with the student; elsewhere choose layers with as many channels."
                )

    def pairs(self, teacher_outputs: Any, student_outputs: Any) -> list[tuple[Tensor, Tensor]]:
        """The teacher's and the student's features of each pair of layers.

        Raises:
            ValueError: they are of different numbers of layers.
        """
        teachers, students = _list(teacher_outputs), _list(student_outputs)
        if len(teachers) != len(students) or len(teachers) != len(self.teacher_layers):
            raise ValueError(
                f"{type(self).__name__}: expected features of {len(self.teacher_layers)} layers of each model, as its layer names say. "
                f"Received: {len(teachers)} of the teacher's and {len(students)} of the student's."
            )
        return list(zip(teachers, students, strict=True))

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Check, for `keras.distillation.Distiller`, that it can find this loss's layers.

        Raises:
            ValueError: it cannot.
        """
        for argument, names, model in (
            ("teacher_layer_name", self.teacher_layers, teacher),
            ("student_layer_name", self.student_layers, student),
        ):
            known = [layer.name for layer in model.layers]
            if len(names) != 1 or names[0] not in known:
                hint = "" if len(names) != 1 or names[0] is None else suggest(names[0], known) + " "
                raise ValueError(
                    f"`{argument}`: keras.distillation.Distiller takes the name of one layer of each model. Received: "
                    f"{argument}={getattr(self, argument)!r}. {hint}For several layers, layers inside others or the head's input use "
                    "kdfuse.Distill."
                )


def flatten(features: Tensor) -> Tensor:
    """Features `[batch, ...]` as `[batch, numbers]`."""
    return keras.ops.reshape(features, (keras.ops.shape(features)[0], -1))


def row_means(values: Tensor, mask: Any = None) -> Tensor:
    """The mean of each row over its positions.

    Args:
        values: `[batch, ...]`.
        mask: None, or float32 `[batch, steps]`: a mean over steps is over those of 1, and 0 where there are none.

    Returns:
        `[batch]`.
    """
    shape = keras.ops.shape(values)
    if mask is None or len(shape) < 2 or values.shape[1] != mask.shape[1]:
        return keras.ops.mean(keras.ops.reshape(values, (shape[0], -1)), axis=-1)
    steps = keras.ops.mean(keras.ops.reshape(values, (*shape[:2], -1)), axis=-1)
    return keras.ops.sum(mask * steps, axis=-1) / keras.ops.maximum(keras.ops.sum(mask, axis=-1), 1.0)


def _layers(value: Any) -> Layers:
    names = tuple(value) if isinstance(value, list | tuple) else value
    for name in names if isinstance(names, tuple) else (names,):
        if name is not None and not isinstance(name, str):
            raise ValueError(f"`teacher_layer_name`, `student_layer_name`: expected a name, several, or None. Received: {value!r}.")
    if names == ():
        raise ValueError("`teacher_layer_name`, `student_layer_name`: expected at least one layer. Received: an empty list.")
    return names


def _list(features: Any) -> list[Any]:
    return list(features) if isinstance(features, list | tuple) else [features]


def _unmasked(features: Tensor, mask: Any) -> Tensor:
    if mask is None or len(mask.shape) >= len(features.shape) or mask.shape[1] != features.shape[1]:
        return features
    mask = keras.ops.cast(mask, features.dtype)
    while len(mask.shape) < len(features.shape):
        mask = keras.ops.expand_dims(mask, -1)
    return features * mask


def _matching_mask(mask: Any, features: Tensor) -> Any:
    """The mask of features after `matching`: a step is left out where all of the steps that it is the mean of are."""
    if mask is None or len(features.shape) < 3 or len(mask.shape) != 2:
        return None
    if len(features.shape) == 3 and None not in (mask.shape[1], features.shape[1]) and mask.shape[1] > features.shape[1]:
        mask = matching(keras.ops.cast(mask, "float32")[..., None], features)[0][..., 0] > 0
    return mask if mask.shape[1] == features.shape[1] else None


def _row_weights(sample_weight: Any, features: Tensor) -> Tensor:
    """Float32 `[batch]`: of several outputs or positions the mean."""
    count = keras.ops.shape(features)[0]
    given = [leaf for leaf in keras.tree.flatten(sample_weight) if leaf is not None]
    if not given:
        return keras.ops.ones((count,))
    rows = [keras.ops.mean(keras.ops.reshape(keras.ops.cast(leaf, "float32"), (count, -1)), axis=-1) for leaf in given]
    return keras.ops.stop_gradient(sum(rows[1:], rows[0]) / len(rows))


def _numbers(labels: Any) -> Any:
    """The class numbers `[batch]` of a single output with one label a row, else None."""
    if labels is None or keras.tree.is_nested(labels):
        return None
    labels = keras.ops.convert_to_tensor(labels)
    if len(labels.shape) == 2:
        labels = keras.ops.squeeze(labels, -1) if labels.shape[-1] == 1 else keras.ops.argmax(labels, axis=-1)
    return keras.ops.cast(labels, "int32") if len(labels.shape) == 1 else None
