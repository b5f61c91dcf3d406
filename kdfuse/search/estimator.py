"""KerasClassifier and KerasRegressor: scikit-learn's estimators over any builder and any technique."""

import copy
import inspect
import tempfile
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from kdfuse import runtime
from kdfuse.data import Data
from kdfuse.export.keras_file import load_model, save_model
from kdfuse.graph.heads import detect_head, probabilities
from kdfuse.measure.latency import untimed
from kdfuse.measure.predict import one_pass, runner
from kdfuse.models.mlp import mlp
from kdfuse.search.labels import decode, encode, per_class
from kdfuse.search.params import PARTS, builder_settings, check_names, merged, nested, reseeded, takes, technique_of
from kdfuse.settings import is_settings
from kdfuse.splits import ArraySplit
from kdfuse.technique import Technique

ARGUMENTS = (*PARTS, "validation", "random_state")
BLOCK = 16
"""Rows are predicted in multiples of this, so that a row's prediction does not depend on how many others there are."""
KEPT = ("_metadata_request", "_sklearn_output_config", "_skl_callbacks")
"""What scikit-learn itself hangs on an estimator, and a clone keeps."""


class KerasEstimator(BaseEstimator):
    """What the classifier and the regressor have in common.

    Args:
        build: a builder `build(data, **settings) -> keras.Model`, None for `kdfuse.models.mlp`; or a model that every fit begins with.
        technique: what is applied to the model that was built, such as `Distill(teacher)` or a `Chain`; None for the training alone.
        training: takes the place of the technique's own training; None keeps that, and is `Train()` where there is no technique.
        validation: share of the rows in (0, 1) to choose on, for early stopping and whatever else asks for it; 0 for none.
        random_state: of the builder, the split and every `seed` of the technique; None leaves their seeds as they are set (0 by default).
        **settings: of the builder, the training and the technique, by name: `build__units`, `training__epochs`,
            `technique__losses__0__temperature`. `set_params` and the searches of scikit-learn take the same names.

    Attributes:
        model_: the trained `keras.Model`.
        report_: the technique's report, without latency.
        history_: curves, one value an epoch.
        n_features_in_: `X.shape[1]`.
        input_shape_: the shape of one row.

    Raises:
        TypeError: an unknown setting; the message names the near ones.
    """

    def __init__(
        self,
        build: Any = None,
        technique: Any = None,
        training: Any = None,
        *,
        validation: float = 0.0,
        random_state: Any = None,
        **settings: Any,
    ) -> None:
        self.build, self.technique, self.training = build, technique, training
        self.validation, self.random_state = validation, random_state
        self._settings = merged({}, settings)
        check_names(type(self).__name__, ARGUMENTS, self._parts(), self._settings)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name.

        Args:
            deep: also every setting of the builder, the training and the technique, whether given or a default.
        """
        own = {name: getattr(self, name) for name in ARGUMENTS}
        return {**own, **(nested(*self._parts(), self._settings) if deep else self._settings)}

    def set_params(self, **params: Any) -> Self:
        """Change arguments and settings.

        A new technique or training brings its own settings: those that were set by name before are dropped. Of the builder's, those are
        kept that the new one has too.

        Raises:
            ValueError: an unknown name; nothing is changed.
        """
        before = self.__dict__.copy()
        kept = dict(self._settings)
        for name, value in params.items():
            if name in ARGUMENTS and value is not getattr(self, name):
                setattr(self, name, value)
                if name in PARTS:
                    kept = {one: old for one, old in kept.items() if not one.startswith(f"{name}__") or self._keeps(one)}
        try:
            self._settings = merged(kept, {name: value for name, value in params.items() if name not in ARGUMENTS})
            check_names(type(self).__name__, ARGUMENTS, self._parts(), self._settings)
        except TypeError as error:
            self.__dict__.update(before)
            raise ValueError(str(error)) from None
        return self

    def takes_setting(self, name: str) -> bool:
        """Whether it has an argument or a setting of this name, also where its builder takes settings of any name."""
        return name in self.get_params() or self._keeps(name)

    def _keeps(self, name: str) -> bool:
        return name.startswith("build__") and takes(self._parts()[0], name[7:])

    def _parts(self) -> tuple[Any, Any, Any]:
        return mlp if self.build is None else self.build, self.technique, self.training

    def __sklearn_clone__(self) -> Self:
        """As scikit-learn's, but what cannot change (models, techniques) is shared, not copied."""
        params = self.get_params(deep=False)
        made = type(self)(**{name: value if _shared(value) else clone(value, safe=False) for name, value in params.items()})
        made.__dict__.update({name: copy.copy(value) for name, value in vars(self).items() if name in KEPT})
        return made

    def _train(self, x: np.ndarray, y: np.ndarray, sample_weight: Any, task: str, class_names: Any = None) -> None:
        """Build, apply the technique, keep the model."""
        state = self.random_state
        seed = None if state is None else int(check_random_state(state).randint(2**31 - 1)) if not isinstance(state, int) else state
        parts = (x, y) if sample_weight is None else (x, y, _relative(sample_weight))
        data = Data(parts, self.validation or None, task=task, class_names=class_names, seed=seed or 0)
        build, technique, training = self._parts()
        technique = reseeded(technique_of(technique, training, {}), seed)
        technique = technique_of(technique, None, self._settings)
        with untimed():
            model, report = technique(self._built(build, data, seed), data, name=type(self).__name__)
        if not isinstance(model, keras.Model):
            name = type(technique).__name__
            raise TypeError(
                f"`technique` of {type(self).__name__}: expected one that gives one model. Received: {name}, which gives several. "
                f"Let one follow that combines them: Chain([{name}(...), Parallel()])."
            )
        self.model_, self.report_, self.history_ = model, report, report.history
        self.input_shape_ = x.shape[1:]
        declared = getattr(getattr(technique, "training", technique), "head", "auto")
        self._head = detect_head(model, task, data.example(64), declared)
        self._run = runner(model)

    def _built(self, build: Any, data: Data, seed: int | None) -> keras.Model:
        if isinstance(build, keras.Model):
            return build
        if not callable(build):
            raise TypeError(f"`build` of {type(self).__name__}: expected a builder, such as kdfuse.models.mlp. Received: {build!r}.")
        settings = {name[7:]: value for name, value in self._settings.items() if name.startswith("build__")}
        if seed is None:
            return build(data, **settings)
        if "seed" in builder_settings(build):
            return build(data, **{"seed": seed, **settings})
        with runtime.seeds_kept():
            keras.utils.set_random_seed(seed)
            return build(data, **settings)

    def _outputs(self, X: Any) -> np.ndarray:
        """What the model gives for each row."""
        check_is_fitted(self, "model_")
        x = validate_data(self, X, reset=False, allow_nd=True)
        if x.shape[1:] != self.input_shape_:
            raise ValueError(
                f"`X` of {type(self).__name__}: expected rows of shape {self.input_shape_}, as it was fitted with. Received: {x.shape[1:]}."
            )
        rows = len(x)
        if rows % BLOCK:  # the rows left over by a block go through other kernels, whose last digits differ
            x = np.concatenate([x, np.repeat(x[-1:], BLOCK - rows % BLOCK, axis=0)])
        with runtime.new_models_expected():
            outputs = one_pass(self.model_, ArraySplit(x, np.zeros(len(x), "int8"), name="X"), run=self._run).outputs
        return outputs[:rows]  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in super().__getstate__().items() if name != "_run"}
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                state["model_"] = save_model(state["model_"], Path(folder, "model.keras")).read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("model_"), bytes):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "model.keras")
                file.write_bytes(state["model_"])
                model = load_model(file)
            state = {**state, "model_": model, "_run": runner(model)}
        super().__setstate__(state)


_signature = inspect.signature(KerasEstimator.__init__)
# scikit-learn reads the constructor's signature for the names of its arguments, and `**settings` is none.
KerasEstimator.__init__.__signature__ = _signature.replace(  # type: ignore[attr-defined]
    parameters=[one for one in _signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
)


class KerasClassifier(ClassifierMixin, KerasEstimator):
    """A scikit-learn classifier that builds a Keras model for its data and applies a technique to it.

    Labels may be of any sortable type; an indicator matrix of zeros and ones is a multilabel task.

    Example:
        clf = KerasClassifier(kf.models.mlp, kf.Distill(teacher), build__units=(30, 30), training__epochs=20)
        cross_val_score(clf, x, y, cv=5)
    """

    __doc__ = f"{inspect.cleandoc(__doc__ or '')}\n\n{inspect.cleandoc(KerasEstimator.__doc__ or '')}"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Build and train.

        Args:
            X: `(rows, features)`, or more axes, such as images `(rows, height, width, channels)`.
            y: labels `(rows,)`, or zeros and ones `(rows, labels)`.
            sample_weight: None, or a weight of at least 0 for each row; only their ratios count.

        Raises:
            ValueError: unequal numbers of rows, NaN or infinity, labels that are no classes, a single class.
        """
        X, y = validate_data(self, X, y, allow_nd=True, multi_output=True)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        labels = encode(y, type(self).__name__, weights)
        self._task, self.classes_ = labels.task, labels.classes
        self._train(X, labels.codes, weights, labels.task, labels.names)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class in the order of `classes_` `(rows, classes)`; of a multilabel task, of each label."""
        return per_class(probabilities(self._outputs(X), self._head), self._task)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row; of a multilabel task, zeros and ones."""
        return decode(self.predict_proba(X), self._task, self.classes_)


class KerasRegressor(RegressorMixin, KerasEstimator):
    """A scikit-learn regressor that builds a Keras model for its data and applies a technique to it.

    Targets are learned as they are: put `sklearn.compose.TransformedTargetRegressor` around it where they are far from 0 and 1.
    """

    __doc__ = f"{inspect.cleandoc(__doc__ or '')}\n\n{inspect.cleandoc(KerasEstimator.__doc__ or '')}"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Build and train.

        Args:
            X: `(rows, features)`, or more axes.
            y: values `(rows,)` or `(rows, outputs)`.
            sample_weight: None, or a weight of at least 0 for each row; only their ratios count.

        Raises:
            ValueError: unequal numbers of rows, NaN or infinity.
        """
        X, y = validate_data(self, X, y, allow_nd=True, multi_output=True, y_numeric=True)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        self._columns = y.shape[1:]
        self._train(X, y.astype("float32"), weights, "regression")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The values in float64, in the shape that `y` had."""
        outputs = self._outputs(X).astype("float64")
        return outputs.reshape(len(outputs), *self._columns)


def _relative(sample_weight: np.ndarray) -> np.ndarray:
    """Weights of mean 1: the size of a step does not depend on their scale."""
    mean = float(sample_weight.mean())
    return sample_weight / mean if mean > 0 else sample_weight


def _shared(value: Any) -> bool:
    return isinstance(value, Technique | keras.Layer) or is_settings(value)
