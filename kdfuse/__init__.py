"""kdfuse: make a trained Keras 3 model smaller, faster or better, and prove it."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kdfuse import recording

if TYPE_CHECKING:
    from kdfuse import datasets as datasets
    from kdfuse import models as models
    from kdfuse import runtime as runtime
    from kdfuse.data import Data as Data
    from kdfuse.distill.distill import Distill as Distill
    from kdfuse.distill.losses.base import Loss as Loss
    from kdfuse.distill.losses.hard_labels import HardLabels as HardLabels
    from kdfuse.distill.losses.logit_standardization import LogitStandardization as LogitStandardization
    from kdfuse.distill.losses.logits_mse import LogitsMSE as LogitsMSE
    from kdfuse.distill.losses.soft_targets import SoftTargets as SoftTargets
    from kdfuse.export.keras_file import load_model as load_model
    from kdfuse.export.keras_file import save_model as save_model
    from kdfuse.fitting.decay import Cosine as Cosine
    from kdfuse.fitting.decay import Exponential as Exponential
    from kdfuse.fitting.decay import Plateau as Plateau
    from kdfuse.fitting.decay import Staircase as Staircase
    from kdfuse.fitting.stopping import Stopping as Stopping
    from kdfuse.recording import silence as silence
    from kdfuse.report import Report as Report
    from kdfuse.technique import Chain as Chain
    from kdfuse.technique import Technique as Technique
    from kdfuse.technique import evaluate as evaluate
    from kdfuse.tracking.track import track as track
    from kdfuse.train import Train as Train

__version__ = "0.1.0"

_NAMES = {
    "datasets": "kdfuse.datasets",
    "models": "kdfuse.models",
    "runtime": "kdfuse.runtime",
    "Data": "kdfuse.data:Data",
    "Distill": "kdfuse.distill.distill:Distill",
    "Loss": "kdfuse.distill.losses.base:Loss",
    "HardLabels": "kdfuse.distill.losses.hard_labels:HardLabels",
    "LogitStandardization": "kdfuse.distill.losses.logit_standardization:LogitStandardization",
    "LogitsMSE": "kdfuse.distill.losses.logits_mse:LogitsMSE",
    "SoftTargets": "kdfuse.distill.losses.soft_targets:SoftTargets",
    "load_model": "kdfuse.export.keras_file:load_model",
    "save_model": "kdfuse.export.keras_file:save_model",
    "Cosine": "kdfuse.fitting.decay:Cosine",
    "Exponential": "kdfuse.fitting.decay:Exponential",
    "Plateau": "kdfuse.fitting.decay:Plateau",
    "Staircase": "kdfuse.fitting.decay:Staircase",
    "Stopping": "kdfuse.fitting.stopping:Stopping",
    "silence": "kdfuse.recording:silence",
    "Report": "kdfuse.report:Report",
    "Chain": "kdfuse.technique:Chain",
    "Technique": "kdfuse.technique:Technique",
    "evaluate": "kdfuse.technique:evaluate",
    "track": "kdfuse.tracking.track:track",
    "Train": "kdfuse.train:Train",
}

_LIGHT = {"datasets", "runtime", "Data", "silence", "Report", "track"}
"""Names that load neither Keras nor TensorFlow."""

__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        from kdfuse.settings import suggest

        raise AttributeError(f"kdfuse has no {name!r}. {suggest(name, _NAMES)}")
    module, _, attribute = _NAMES[name].partition(":")
    if name not in _LIGHT and "keras" not in sys.modules:
        from kdfuse.runtime import tensorflow

        tensorflow()  # quietly, before Keras loads it with all its lines
    found = import_module(module)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _default_recorder() -> recording.Recorder:
    from kdfuse.tracking.mlflow_recorder import MlflowRecorder

    return MlflowRecorder()


recording.set_default(_default_recorder)
