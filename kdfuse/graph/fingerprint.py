"""Fingerprints of models and arrays: equal in every process, different as soon as a result could be."""

import base64
import hashlib
import inspect
import marshal
import re
import types
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

DROPPED = ("compile_config", "build_config", "build_input_shape", "shared_object_id", "module")


def fingerprint(model: keras.Model) -> str:
    """A SHA-256 of what `model` computes: its config, the code of its own classes, its weights and their `trainable` flags.

    Names that Keras gave by counting (`dense_7`) are replaced by their order in the model, so a script that is run
    again gets the same fingerprint whatever was built before. Optimizer, compile state, losses, metrics and the states
    of seed generators are left out. A model without a config counts by its
    layers, their settings and its weights.

    Returns:
        64 hexadecimal digits.
    """
    digest = _structure(model)
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        _update(digest, [bool(weight.trainable), str(weight.dtype), value])
    return digest.hexdigest()


def structure_mark(model: keras.Model) -> str:
    """Equal for models of one structure: as `fingerprint`, without the values of the weights and without seeds."""
    digest = _structure(model, _seedless)
    for weight in model.weights:
        _update(digest, [bool(weight.trainable), str(weight.dtype), list(weight.shape)])
    return digest.hexdigest()


def _structure(model: keras.Model, seen: Callable[[Any], Any] = lambda config: config) -> Any:
    digest = hashlib.sha256()
    _update(digest, type(model).__name__)
    _update(digest, seen(_config(model)))
    for cls in _own_classes(model):
        _update(digest, [cls.__qualname__, _class_code(cls)])
    return digest


def _seedless(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _seedless(item) for key, item in config.items() if key != "seed"}
    return [_seedless(item) for item in config] if isinstance(config, list | tuple) else config


def leaf(value: Any) -> str | None:
    """The text that stands for `value` among flattened settings.

    Args:
        value: any setting.

    Returns:
        `"<name>:<16 hexadecimal digits>"` for a model, `"<dtype><shape>:<16 hexadecimal digits>"` for an array or tensor, else None.
    """
    if isinstance(value, keras.Model):
        name = _family(type(value).__name__) if _is_automatic(value.name, type(value).__name__) else value.name
        return f"{name}:{fingerprint(value)[:16]}"
    if isinstance(value, np.ndarray) or (not isinstance(value, keras.KerasTensor) and keras.ops.is_tensor(value)):
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(value))
        digest = hashlib.sha256()
        _update(digest, array)
        return f"{array.dtype}{list(array.shape)}:{digest.hexdigest()[:16]}"
    return None


def _config(model: keras.Model) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = model.get_config()
        except (NotImplementedError, TypeError, ValueError, OSError):  # OSError: a lambda without source
            return [_part(part) for part in model._flatten_layers()]
    return _normalise({"class_name": type(model).__name__, "config": config})


def _part(layer: keras.Layer) -> Any:
    """What can be told of a layer of a model without a config: its class, and its config or its plain values."""
    try:
        found = _normalise({"class_name": type(layer).__name__, "config": layer.get_config()})["config"]
    except (NotImplementedError, TypeError, ValueError, OSError):
        kept = bool | int | float | str | types.FunctionType | None
        found = {key: value for key, value in vars(layer).items() if not key.startswith("_") and key != "name" and isinstance(value, kept)}
        found = {key: value for key, value in found.items() if key not in ("build", "quantize")}
    return [f"{type(layer).__module__}.{type(layer).__qualname__}", found]


def _normalise(config: Any) -> Any:
    """The config without what does not count, with names given by counting replaced by their order."""
    if isinstance(config, list | tuple):
        return [_normalise(item) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "__lambda__":
        return _dumped(config["config"])
    if set(config) == {"value"} and isinstance(config["value"], tuple) and len(config["value"]) == 3:
        return _dumped(config)
    result = {key: _normalise(value) for key, value in config.items() if key not in DROPPED}
    inner = result.get("config")
    if isinstance(inner, dict) and isinstance(inner.get("name"), str) and _is_automatic(inner["name"], str(config.get("class_name"))):
        inner["name"] = _family(str(config["class_name"]))
    layers = config.get("layers")
    if isinstance(layers, list):
        return _rename(result, _new_names(layers))
    return result


def _new_names(layers: list[Any]) -> dict[str, str]:
    """Within one model: automatic names to the class and the order of appearance."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for layer in layers:
        inner = layer.get("config") if isinstance(layer, dict) else None
        name = layer.get("name", inner.get("name") if isinstance(inner, dict) else None) if isinstance(layer, dict) else None
        if isinstance(name, str) and _is_automatic(name, str(layer.get("class_name"))):
            family = _family(str(layer["class_name"]))
            names[name] = f"{family}#{counts.setdefault(family, 0)}"
            counts[family] += 1
    return names


def _rename(config: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    layers = []
    for layer in config["layers"]:
        if isinstance(layer, dict):
            layer = dict(layer)
            if "name" in layer:
                layer["name"] = names.get(layer["name"], layer["name"])
            if "inbound_nodes" in layer:
                layer["inbound_nodes"] = _references(layer["inbound_nodes"], names)
        layers.append(layer)
    changed = {**config, "layers": layers}
    for key in ("input_layers", "output_layers"):
        if key in changed:
            changed[key] = _references(changed[key], names)
    return changed


def _references(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _references(item, names) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int) and isinstance(value[2], int):
            return [names.get(value[0], value[0]), *value[1:]]
        return [_references(item, names) for item in value]
    return value


def _family(class_name: str) -> str:
    """The stem of the names that Keras gives to objects of a class: `Conv2D` becomes `conv2d`."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _is_automatic(name: str, class_name: str) -> bool:
    return re.fullmatch(rf"{re.escape(_family(class_name))}(_\d+)?", name) is not None


def _dumped(config: dict[str, Any]) -> Any:
    code, defaults, closure = (config["code"], config["defaults"], config["closure"]) if "code" in config else config["value"]
    return [_code(marshal.loads(base64.decodebytes(code.encode("ascii")))), defaults, closure]


def _code(code: types.CodeType) -> list[Any]:
    """What a function's code does, without the file and the lines where it stands."""
    constants = [_code(item) if isinstance(item, types.CodeType) else item for item in code.co_consts]
    return [code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars]


def _own_classes(model: keras.Model) -> list[type]:
    """The classes of the model and its layers that are the user's own: their configs do not hold what they compute."""
    found: dict[type, None] = {}
    for part in model._flatten_layers():
        for cls in type(part).__mro__:
            if cls.__module__.split(".")[0] not in ("keras", "tensorflow", "builtins"):
                found[cls] = None
    return sorted(found, key=lambda cls: cls.__qualname__)


def _class_code(cls: type) -> dict[str, Any]:
    members = {}
    for name, value in vars(cls).items():
        function = inspect.unwrap(getattr(value, "python_function", getattr(value, "__func__", value)))
        if isinstance(function, types.FunctionType):
            members[name] = _code(function.__code__)
    return members


def _update(digest: Any, value: Any) -> None:
    """Add `value` to `digest` so that different values never give the same bytes."""
    if isinstance(value, dict):
        digest.update(f"dict{len(value)}:".encode())
        for key in sorted(value, key=str):
            _update(digest, str(key))
            _update(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"list{len(value)}:".encode())
        for item in value:
            _update(digest, item)
    elif isinstance(value, set | frozenset):
        _update(digest, sorted(map(repr, value)))
    elif isinstance(value, np.generic):
        _update(digest, value.item())
    elif isinstance(value, np.ndarray):
        digest.update(f"array{value.dtype}{value.shape}:".encode())
        digest.update(repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes())
    elif isinstance(value, bytes):
        digest.update(f"bytes{len(value)}:".encode() + value)
    elif isinstance(value, types.FunctionType):
        _update(digest, ["function", value.__qualname__, _code(value.__code__), value.__defaults__])
    elif isinstance(value, bool | int | float | complex | str | type(None) | type(Ellipsis)):
        text = repr(value)
        digest.update(f"{type(value).__name__}{len(text)}:{text}".encode())
    elif keras.ops.is_tensor(value) or isinstance(value, keras.Variable):
        _update(digest, keras.ops.convert_to_numpy(value))
    elif hasattr(value, "get_config") and not isinstance(value, type):
        _update(digest, [type(value).__qualname__, _normalise(value.get_config())])
    else:
        _update(digest, str(getattr(value, "__qualname__", type(value).__qualname__)))
