"""Linear models over stacked predictions, fitted to convergence by scikit-learn: weights for a Dense layer."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

MOST_STEPS, TOLERANCE = 10_000, 1e-8
NEVER = -30.0
"""Below the mean logit of the others: what a class gets that no row has."""


class Linear(NamedTuple):
    """What a Dense layer over the features holds.

    Attributes:
        kernel: `[columns, units]`.
        bias: `[units]`.
        activation: of the units.
        converged: whether the fit came to its end.
    """

    kernel: np.ndarray
    bias: np.ndarray
    activation: str
    converged: bool


def fit_linear(features: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, head: str, units: int, strength: float) -> Linear:
    """The linear model of least penalised loss: a logistic regression, one for each column of a sigmoid, or a ridge regression.

    Args:
        features: `[rows, columns]`.
        targets: class numbers `[rows]`, rows of probabilities `[rows, units]`, zeros and ones, or values.
        weights: None, or sample weights `[rows]`.
        head: `"softmax"`, `"sigmoid"` or `"regression"`.
        units: of the output.
        strength: inverse of the L2 penalty on the kernel, scikit-learn's `C`; a ridge regression has `alpha = 1 / C`.
    """
    x = np.asarray(features, dtype="float64")
    shares = np.ones(len(x)) if weights is None else np.asarray(weights, dtype="float64").reshape(-1)
    truth = np.asarray(targets)
    if head == "regression":
        trainer = Ridge(alpha=1.0 / strength)
        trainer.fit(x, truth.reshape(len(x), units).astype("float64"), sample_weight=shares)
        return Linear(np.reshape(trainer.coef_, (units, -1)).T, np.broadcast_to(trainer.intercept_, (units,)), "linear", True)
    if head == "softmax":
        soft = truth.shape == (len(x), units)
        masses = truth.astype("float64") if soft else np.eye(units)[truth.reshape(-1).astype(int)]
        kernel, bias, converged = _logistic(x, masses * shares[:, None], strength)
        return Linear(kernel, bias, "softmax", converged)
    yes = truth.reshape(len(x), units).astype("float64")
    fits = [_logistic(x, np.stack([1 - column, column], axis=1) * shares[:, None], strength) for column in yes.T]
    kernel = np.stack([kernel[:, 1] - kernel[:, 0] for kernel, _, _ in fits], axis=1)
    return Linear(kernel, np.array([bias[1] - bias[0] for _, bias, _ in fits]), "sigmoid", all(one[2] for one in fits))


def _logistic(x: np.ndarray, masses: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray, bool]:
    """Kernel, bias and whether it converged, of a softmax over the classes whose weights in each row are `masses`."""
    rows, labels = np.nonzero(masses > 0)
    present = np.unique(labels)
    kernel, bias, converged = np.zeros((x.shape[1], masses.shape[1])), np.zeros(masses.shape[1]), True
    if len(present) > 1:
        trainer = LogisticRegression(C=strength, max_iter=MOST_STEPS, tol=TOLERANCE)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.fit(x[rows], labels, sample_weight=masses[rows, labels])
        converged = not any(issubclass(one.category, ConvergenceWarning) for one in caught)
        two = len(present) == 2
        kernel[:, present] = (np.concatenate([-trainer.coef_, trainer.coef_]) / 2 if two else trainer.coef_).T
        bias[present] = np.concatenate([-trainer.intercept_, trainer.intercept_]) / 2 if two else trainer.intercept_
    missing = np.setdiff1d(np.arange(masses.shape[1]), present)
    kernel[:, missing] = kernel[:, present].mean(axis=1, keepdims=True)
    bias[missing] = bias[present].mean() + NEVER
    return kernel, bias, converged
