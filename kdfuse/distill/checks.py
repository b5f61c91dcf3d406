"""What is asked of the settings of a distillation before anything is trained."""

from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.distill.cache import Cache
from kdfuse.distill.losses.base import Loss
from kdfuse.distill.losses.features import FeatureLoss
from kdfuse.distill.schedules import Schedule
from kdfuse.distill.structure import flat
from kdfuse.distill.weighting import check_weights
from kdfuse.graph.heads import detect_head
from kdfuse.settings import choose, suggest


def check_teachers(teachers: tuple[Any, ...], weights: Any, preparation: Any) -> None:
    """Check the settings `teacher`, `teacher_weights` and `teacher_preprocessing`."""
    if not teachers:
        raise TypeError("`teacher`: expected a trained keras.Model, or several. Received: none.")
    for teacher in teachers:
        if not isinstance(teacher, keras.Model):
            raise TypeError(f"`teacher`: expected a trained keras.Model of Keras 3. Received: {type(teacher).__name__}.")
        if not teacher.built:
            raise ValueError(f"`teacher`: {teacher.name!r} has no weights yet. Train it, or load a trained one.")
    check_weights(weights, len(teachers))
    if len(teachers) == 1 and weights != "mean":
        raise ValueError(f"`teacher_weights`: there is one teacher. Received: teacher_weights={weights!r}. Leave it out.")
    layers = preparation if isinstance(preparation, tuple) else (preparation,)
    if isinstance(preparation, tuple) and len(layers) != len(teachers):
        raise ValueError(f"`teacher_preprocessing`: expected one for each of {len(teachers)} teachers. Received: {len(layers)}.")
    for layer in layers:
        if layer is not None and not isinstance(layer, keras.Layer):
            raise TypeError(
                f"`teacher_preprocessing`: expected a Keras layer or model, such as keras.layers.Resizing(64, 64). Received: {layer!r}."
            )


def check_losses(losses: Any, teacher_weights: Any) -> None:
    """Check the setting `losses`."""
    if not isinstance(losses, tuple) or not losses:
        raise TypeError(f"`losses`: expected a list of one or more losses, such as [kdfuse.SoftTargets(4.0)]. Received: {losses!r}.")
    for loss in losses:
        if not isinstance(loss, keras.distillation.DistillationLoss):
            raise TypeError(f"`losses`: expected distillation losses, such as kdfuse.SoftTargets(4.0). Received: {loss!r}.")
        if isinstance(loss, Loss):
            continue
        if getattr(loss, "teacher_layer_name", None) or getattr(loss, "student_layer_name", None):
            raise ValueError(
                f"`losses`: {type(loss).__name__} reads layers, and its projectors would not be trained. Use a kdfuse loss on features, "
                "such as kdfuse.Hints(teacher_layer_name, student_layer_name)."
            )
        if isinstance(teacher_weights, str) and teacher_weights != "mean":
            raise ValueError(
                f"`teacher_weights`: {type(loss).__name__} is not kdfuse's and takes no weights of samples. Received: {teacher_weights!r}. "
                "Use 'mean', numbers, or a loss of kdfuse."
            )


def check_loss_weights(weights: Any, label_weight: Any, count: int) -> None:
    """Check the settings `label_weight` and `loss_weights`."""
    _number("label_weight", label_weight)
    if weights is None:
        if label_weight >= 1:
            raise ValueError(
                f"`loss_weights`: None shares 1 - label_weight among the losses. Received: label_weight={label_weight!r}, leaving "
                "nothing. Give the weights, or a label_weight below 1."
            )
        return
    if not isinstance(weights, tuple) or len(weights) != count:
        raise ValueError(f"`loss_weights`: expected {count}, one for each loss. Received: {weights!r}.")
    for weight in weights:
        _number("loss_weights", weight)
    if not any(weights):
        raise ValueError("`loss_weights`: all are 0, so the teacher has no say. Use kdfuse.Train, or give one a weight.")


def check_schedules(schedules: Any, losses: tuple[Any, ...], label_weight: float, loss_weights: tuple[float, ...]) -> None:
    """Check the setting `schedules`: each is of a number above 0 that the distillation has, and of another one than the others."""
    known = {"label_weight": label_weight, **{f"loss_weights__{place}": weight for place, weight in enumerate(loss_weights)}}
    for place, loss in enumerate(losses):
        known |= {f"losses__{place}__{name}": getattr(loss, name) for name in getattr(loss, "scheduled", ())}
    if not isinstance(schedules, tuple) or not all(isinstance(one, Schedule) for one in schedules):
        raise TypeError(f"`schedules`: expected kdfuse.Schedule(setting, decay) objects. Received: {schedules!r}.")
    names = [one.setting for one in schedules]
    for name in names:
        if name not in known:
            raise ValueError(f"`schedules`: {name!r} cannot be scheduled. {suggest(name, known)}")
        if names.count(name) > 1:
            raise ValueError(f"`schedules`: {name!r} is scheduled twice. Leave one out.")
        if known[name] == 0:
            raise ValueError(f"`schedules`: {name!r} is 0, and stays so whatever it is multiplied by. Give it the value of the factor 1.")


def check_values(losses: tuple[Any, ...], head: Any, teacher_weights: Any, cache: Any) -> None:
    """Check that what asks for probabilities of classes is not asked of a regression; `head`: of the student."""
    about = [loss for loss in losses if isinstance(loss, Loss) and any(flat(head)[spot] == "regression" for spot in loss._places(head))]
    if about and isinstance(teacher_weights, str) and teacher_weights != "mean":
        raise ValueError(
            f"`teacher_weights`: {teacher_weights!r} goes by the probabilities of classes, and {type(about[0]).__name__} is on a "
            "regression, which has none. Give 'mean' or numbers."
        )
    if on_outputs(tuple(about)) and isinstance(cache, Cache) and cache.top_k is not None:
        raise ValueError(
            f"`top_k` of Cache: expected classes, whose unlikely ones may be left out. Received: top_k={cache.top_k} and a regression. "
            "Leave it out."
        )


def check_cache(cache: Any, augmented: bool) -> None:
    """Check the setting `cache` as far as it can be told without the data."""
    if not isinstance(cache, bool | Cache):
        choose("cache", cache, ("auto", "memory", "disk"))
    views = cache.views if isinstance(cache, Cache) else 0
    if views and not augmented:
        raise ValueError(
            f"`cache`: `views` are of augmented inputs. Received: views={views} and no `augment` in `training`. Give it there."
        )
    if augmented and not views and cache not in ("auto", False):
        raise ValueError(
            "`cache`: the inputs are augmented anew in every epoch, so the teacher must see them in every step. "
            f"Received: cache={cache!r}. "
            "Use cache='auto', or kdfuse.Cache(views=8) for eight augmented views of each row that are made once."
        )


def teacher_head(teacher: keras.Model, data: Data, example: Any, declared: Any) -> Any:
    """The head of a teacher, with an error that says it is the teacher's."""
    try:
        return detect_head(teacher, data.task, example, declared)
    except ValueError as error:
        raise ValueError(f"`teacher`: {teacher.name!r} does not fit. {error}") from error


def run(argument: str, model: keras.Model, example: Any, data: Data) -> Any:
    """What a model gives for an example, with an error that says which model does not take it."""
    try:
        return model(keras.tree.map_structure(keras.ops.convert_to_tensor, example), training=False)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        mend = " Where it takes another size or scale, give `teacher_preprocessing`." if argument == "teacher" else ""
        raise ValueError(
            f"`{argument}`: {model.name!r} does not take the inputs of the data, of shape {data.input_shape}. "
            f"{type(error).__name__}: {lines[0] if lines else ''}{mend}"
        ) from error


def on_outputs(losses: tuple[Any, ...]) -> list[Any]:
    """The losses on outputs, kdfuse's and others."""
    return [loss for loss in losses if not isinstance(loss, FeatureLoss)]


def _number(argument: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"`{argument}`: expected numbers from 0. Received: {argument}={value!r}.")
