"""Makes Keras know the layers of kdfuse, so that `keras.models.load_model` reads a saved ensemble where kdfuse is imported."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

MODULES = (
    "kdfuse.ensemble.combiners.geometric_mean",
    "kdfuse.ensemble.combiners.hard_vote",
    "kdfuse.ensemble.combiners.logit_mean",
    "kdfuse.ensemble.combiners.maximum",
    "kdfuse.ensemble.combiners.mean",
    "kdfuse.ensemble.combiners.median",
    "kdfuse.ensemble.combiners.trimmed_mean",
    "kdfuse.ensemble.combiners.weighted",
    "kdfuse.ensemble.mixed.side_by_side",
    "kdfuse.ensemble.mixed.gating",
    "kdfuse.ensemble.parallel.fast_weights",
    "kdfuse.ensemble.serial.adding",
    "kdfuse.ensemble.serial.additive",
    "kdfuse.ensemble.serial.escalate",
    "kdfuse.ensemble.serial.samme_vote",
    "kdfuse.ensemble.temperature",
    "kdfuse.ensemble.values",
)
"""Where classes are that stand in saved models. They load no more than Keras and NumPy."""


def register() -> None:
    """Import what stands in saved models: each class registers itself."""
    for module in MODULES:
        import_module(module)


def register_with_keras() -> None:
    """Register now if Keras is loaded, else as soon as it is: kdfuse itself does not load it."""
    if "keras" in sys.modules and not _beginning(sys.modules["keras"]):
        register()
    elif not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(MetaPathFinder):
    """Finds nothing itself; has Keras, once it is loaded, followed by `register`."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        if loader is None:
            return spec
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            try:
                register()
            except Exception as error:  # Keras works without us
                warnings.warn(f"kdfuse could not register its layers with Keras: {error}", stacklevel=2)

        loader.exec_module = exec_module
        return spec


def _beginning(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
