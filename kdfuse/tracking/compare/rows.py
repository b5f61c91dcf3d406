"""From records to rows: which runs count, which of them are the same but for their seeds, and what each row is called."""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdfuse.report import figure
from kdfuse.tracking.compare.records import Record

MODEL = re.compile(r".+:[0-9a-f]{16}")
"""How a model stands among settings: by its name and fingerprint."""
VARYING = ("Cascade", "EarlyExits", "SearchCV")
"""Techniques whose result has another size or cost for each seed."""
MOST_SAID = 3


@dataclasses.dataclass
class Row:
    """One row of a comparison.

    Attributes:
        values: its settings, `model`, `technique`, `n`, `front`, `run` (the last run's id), and its figures; `sd/<name>` is the sample
            standard deviation over seeds.
        records: the runs it is of.
    """

    values: dict[str, Any]
    records: list[Record]


def rows(records: Sequence[Record], *, by_seed: bool = False, nested: bool = False) -> list[Row]:
    """The rows of an experiment, the earliest first.

    Runs inside other techniques (steps of a chain, trials of a search, members) are left out, and so are groups.

    Args:
        records: all runs of the experiment.
        by_seed: a row for each run, instead of mean and spread of those that are the same but for their seeds.
        nested: also the runs inside others.
    """
    known = {record.id: record for record in records}
    chosen = [record for record in records if _counts(record, known, by_seed, nested)]
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in chosen:
        groups[record.id if by_seed or _repeated(record) else signature(record, known)].append(record)
    made = [_row(list(_once(group)), known) for group in groups.values()]
    _name(made)
    return made


def signature(record: Record, known: Mapping[str, Record], *, depth: int = 0) -> tuple[Any, ...]:
    """What runs have in common that differ in their seeds alone.

    A model among the settings counts by the run that made it, not by its weights, for those differ from seed to seed. The builder of a
    model is not recorded: its parameters and MACs stand for it. Names count without their numbers.
    """
    settings = {name: str(value) for name, value in record.settings.items() if not is_seed(name)}
    made: dict[str, Any] = {}
    for name, value in settings.items():
        maker = known.get(record.tags.get(f"{name.replace('__', '_')}_run", ""))
        if maker is not None and depth < 20 and MODEL.fullmatch(value):
            made[name] = signature(maker, known, depth=depth + 1)
    inputs = [known.get(text) for tag, text in sorted(record.tags.items()) if re.fullmatch(r"model(_\d+)?_run", tag)]
    given = [signature(one, known, depth=depth + 1) for one in inputs if one is not None and depth < 20]
    varying = record.technique in VARYING or record.technique.endswith("Search")
    figures = () if varying else (record.metrics.get("size/parameters"), record.metrics.get("cost/macs"))
    name = re.sub(r"\d+", "#", record.name)
    return (record.technique, name, *sorted((key, made.get(key, value)) for key, value in settings.items() if key not in made),
            *sorted(made.items()), *given, record.tags.get("data_fingerprint"), *figures)  # fmt: skip


def is_seed(name: str) -> bool:
    """Whether a setting is a seed or one of several."""
    parts = name.split("__")
    return parts[-1] == "seed" or (len(parts) > 1 and parts[-2] == "seeds") or parts[-1] == "seeds"


def moments(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean and sample standard deviation (n - 1) of each figure that all lines have."""
    found: dict[str, float] = {}
    for name in lines[0]:
        values = [line.get(name) for line in lines]
        numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
        if len(numbers) < len(values) or (figure(name) is None and name != "seconds") or name.startswith("train/"):
            continue
        if len(numbers) == 1:
            found[name] = numbers[0]
        elif not name.startswith("sd/"):
            found[name] = mean = math.fsum(numbers) / len(numbers)
            found[f"sd/{name}"] = math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1))
    return found


def text(name: str) -> str:
    """A name in one line, without characters that control a terminal."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", name).split())


def _counts(record: Record, known: Mapping[str, Record], by_seed: bool, nested: bool) -> bool:
    if record.technique == "track" or record.status != "finished" or not any(figure(name) for name in record.metrics):
        return False
    if by_seed and _repeated(record):
        return not any(other.parent == record.id for other in known.values())
    parent = known.get(record.parent or "")
    inside = parent is not None and parent.technique not in ("track", "")
    return nested or not inside or (by_seed and parent is not None and _repeated(parent) and _counts_by_itself(parent, known))


def _counts_by_itself(record: Record, known: Mapping[str, Record]) -> bool:
    parent = known.get(record.parent or "")
    return parent is None or parent.technique in ("track", "")


def _repeated(record: Record) -> bool:
    return record.technique == "Repeat"


def _once(group: Iterable[Record]) -> Iterable[Record]:
    """Of runs with the same key, which have the same result, the last one."""
    return {record.tags.get("key", record.id): record for record in group}.values()


def _row(records: list[Record], known: Mapping[str, Record]) -> Row:
    last = records[-1]
    common = {name: value for name, value in last.settings.items() if all(one.settings.get(name) == value for one in records)}
    figures = moments([record.metrics for record in records])
    count = len(records)
    if _repeated(last):
        count = max(1, sum(re.fullmatch(r"seeds__\d+", name) is not None for name in last.settings))
    size = figures.get("size/tflite_bytes", figures.get("size/keras_bytes"))
    extra = {} if size is None else {"bytes": size}
    values = {**common, "model": _common_name(records, known), "technique": last.technique, "n": count, "front": False, "run": last.id}
    return Row({**values, **figures, **extra}, records)


def _called(record: Record, known: Mapping[str, Record]) -> str:
    """The name of a run, after that of the technique it is inside of."""
    parent = known.get(record.parent or "")
    name = text(record.name) or record.technique or record.id
    return name if parent is None or parent.technique in ("track", "") else f"{_called(parent, known)}, {name}"


def _common_name(records: Sequence[Record], known: Mapping[str, Record]) -> str:
    """The name of runs that differ in numbers: `student 16, seed 0` and `student 16, seed 1` are `student 16`."""
    names = list(dict.fromkeys(_called(record, known) for record in records))
    if len(names) == 1:
        return names[0]
    parts = [re.split(r"(\d+)", name) for name in names]
    if len({len(one) for one in parts}) > 1:  # inside techniques that are called differently
        return _common_name(records, {}) if known else records[-1].technique
    kept = "".join(one[0] if len(set(one)) == 1 else "\0" for one in zip(*parts, strict=True))
    kept = re.sub(r"[\s,;:(_=-]*(\bseed)?[\s:=_-]*\0\)?", "", kept).strip(" ,;:_-")
    return kept or records[-1].technique


def _name(made: Sequence[Row]) -> None:
    """Tell rows of one name apart: by the settings that differ, else by their size, else by their seeds, else by a number."""
    for tell in (_by_settings, _by_size, _by_seeds, _by_number):
        named: dict[str, list[Row]] = defaultdict(list)
        for row in made:
            named[row.values["model"]].append(row)
        for alike in [group for group in named.values() if len(group) > 1]:
            tell(alike)


def _by_settings(alike: Sequence[Row], *, seeds: bool = False) -> None:
    settings = [name for name in dict.fromkeys(name for row in alike for name in row.records[-1].settings) if is_seed(name) == seeds]
    differ = [name for name in settings if len({str(row.values.get(name)) for row in alike}) > 1
              and not any(MODEL.fullmatch(str(row.values.get(name))) for row in alike)]  # fmt: skip
    for row in alike:
        said = [f"{name.split('__')[-1]} {row.values.get(name)}" for name in differ[: 1 if seeds else MOST_SAID]]
        row.values["model"] = text(" · ".join([row.values["model"], *said]))


def _by_seeds(alike: Sequence[Row]) -> None:
    _by_settings(alike, seeds=True)


def _by_size(alike: Sequence[Row]) -> None:
    if len({row.values.get("size/parameters") for row in alike}) > 1:
        for row in alike:
            if row.values.get("size/parameters") is not None:
                row.values["model"] += f" · {row.values['size/parameters']:,.0f} parameters"


def _by_number(alike: Sequence[Row]) -> None:
    for place, row in enumerate(alike):
        row.values["model"] += f" #{place + 1}"
