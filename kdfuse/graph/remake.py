"""Make a layer again from its config, in the process that made it."""

import codecs
import marshal
import types
import warnings
from typing import Any

import keras


def remake(layer: keras.Layer) -> keras.Layer:
    """A layer or subclassed model made again from its own config, with the original's functions and classes.

    Args:
        layer: trusted, for its own functions are used; it is only read.

    Returns:
        A new layer of the same class and names, without the weights.

    Raises:
        ValueError: its config does not make it; the message says what to write.
    """
    where = f"{layer.name!r} of class {type(layer).__name__}"
    try:
        config, objects = _config_and_objects(layer)
        # The class goes in under a name of its own: a class registered later under the same name must not take its place.
        objects["kdfuse>copied"] = type(layer)
        holder = {"module": None, "class_name": "copied", "registered_name": "kdfuse>copied", "config": config}
        twin = keras.saving.deserialize_keras_object(holder, custom_objects=objects, safe_mode=False)
    except OSError as error:  # from Python's look for the source of a lambda
        raise ValueError(
            f"`model`: cannot copy {where}, for it holds a lambda that was typed at a prompt and has no source. Use a named function."
        ) from error
    except (NotImplementedError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"`model`: cannot copy {where}, for it cannot be made again from its config. Write `get_config()` in {type(layer).__name__} so "
            "that it returns every argument of `__init__` (and `from_config` where an argument is itself a layer). "
            f"The error was: {_first_line(error)}"
        ) from error
    if type(twin) is not type(layer):
        raise ValueError(f"`model`: the config of {where} makes a {type(twin).__name__}. Mend its `from_config`.")
    _copy_names(layer, twin)
    return twin


def without_arrays(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a layer with random initializers in place of those that hold an array, which fits one size alone.

    For a layer whose weights are assigned afterwards. A kernel or an embedding is then drawn as Keras draws it by default.
    """
    return {name: _drawn(name) if _holds_array(value) else _inside(value) for name, value in config.items()}


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return without_arrays(value)
    return [_inside(one) for one in value] if isinstance(value, list) else value


def _holds_array(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("class_name") != "Constant" or not isinstance(value.get("config"), dict):
        return False
    return not isinstance(value["config"].get("value"), int | float | bool | type(None))


def _drawn(name: str) -> str:
    if "embeddings" in name:
        return "uniform"
    return "glorot_uniform" if "kernel" in name else "ones" if "gamma" in name or "variance" in name else "zeros"


def _config_and_objects(layer: keras.Layer) -> tuple[dict[str, Any], dict[str, Any]]:
    objects: dict[str, Any] = {}
    functions: list[types.FunctionType] = []
    for part in layer._flatten_layers():
        for value in [part, *vars(part).values()]:
            if isinstance(value, types.FunctionType):
                functions.append(value)
            elif hasattr(value, "get_config") and not isinstance(value, type):
                objects[keras.saving.get_registered_name(type(value))] = type(value)
    for function in functions:
        if function.__name__ != "<lambda>":
            objects[keras.saving.get_registered_name(function)] = function
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*includes a `lambda`.*")
        config = layer.get_config()
    if isinstance(layer, keras.Model) and type(layer).get_config in (keras.Model.get_config, keras.Sequential.get_config):
        # The config that Keras makes for a subclassed model holds the defaults of its arguments, not what was given.
        config = {key: _plain(vars(layer).get(key, value), value) for key, value in config.items()}
    lambdas = [function for function in functions if function.__name__ == "<lambda>"]
    return _without_code(config, lambdas, objects), objects


def _plain(value: Any, otherwise: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else otherwise


def _without_code(config: Any, lambdas: list[types.FunctionType], objects: dict[str, Any]) -> Any:
    """The config with each dumped lambda replaced by a reference to the live one, which keeps its globals."""
    if isinstance(config, dict):
        dumped = config["config"] if config.get("class_name") == "__lambda__" else config
        if dumped is not config or (set(config) == {"value"} and isinstance(config["value"], tuple) and len(config["value"]) == 3):
            name = _live(dumped, lambdas, objects)
            return config if name is None else {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}
        return {key: _without_code(value, lambdas, objects) for key, value in config.items() if key != "compile_config"}
    if isinstance(config, list | tuple):
        items = [_without_code(value, lambdas, objects) for value in config]
        return tuple(items) if isinstance(config, tuple) else items
    return config


def _live(dumped: dict[str, Any], lambdas: list[types.FunctionType], objects: dict[str, Any]) -> str | None:
    code = dumped["code"] if "code" in dumped else dumped["value"][0]
    same = [function for function in lambdas if _dump(function) == code]
    if not same:
        return None
    if len(same) > 1:
        # Several lambdas of one line (made in a loop): configs list them in the order in which the layers hold them.
        lambdas.remove(same[0])
    name = f"kdfuse_lambda_{id(same[0])}"
    objects[name] = same[0]
    return name


def _dump(function: types.FunctionType) -> str:
    return codecs.encode(marshal.dumps(function.__code__), "base64").decode("ascii")


def _copy_names(original: keras.Layer, twin: keras.Layer) -> None:
    parts, twin_parts = original._flatten_layers(), twin._flatten_layers()
    if len(parts) == len(twin_parts):
        for part, twin_part in zip(parts, twin_parts, strict=True):
            if part.name != twin_part.name and type(part) is type(twin_part):
                twin_part.name = part.name


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
