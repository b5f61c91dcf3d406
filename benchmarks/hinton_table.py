"""The table of `hinton_mnist.py`: our errors beside the paper's, with what is missing shown as missing."""

import statistics

import common

PAPER = {"teacher": 67, "soft": 74, "plain": 146}
OMITTED = {
    "no 3s": ("without 3s", "threes", {"none": (206, 133), "chosen on test": (109, 14)}),
    "7s and 8s": ("of 7s and 8s only", "", {"none": (4730, ""), "chosen on test": (1320, "")}),
}
CHOSEN = {
    "none": "",
    "chosen on train": "best on the training rows",
    "chosen on test": "best on the test set, as in the paper",
    "paper": "the paper's amount",
}


def cells(values, seeds, digits=1):
    """Mean and spread, then each seed, of those that are there."""
    found = [value for value in values if value is not None]
    if not found:
        return ["-", "-"]
    note = "" if len(found) == seeds else f" ({len(found)} of {seeds} seeds)"
    return [common.spread(found, digits), ", ".join(map(str, found)) + note]


def text_of(name, settings):
    units = settings.get("units", 1200)
    if name == "teacher":
        return "teacher 2x1200: dropout, max-norm, jitter" + (", batch norm (the paper without)" if settings["batch_norm"] else "")
    if "losses" not in settings:
        return f"student 2x{units}: labels alone"
    loss = settings["losses"][0]
    if name == "best":
        return f"student 2x{units}: soft targets alone, T = {loss.get_config()['temperature']:g}, jittered images"
    return f"student 2x{units}: soft targets, T = {loss.get_config()['temperature']:g}"


def omitted(name, settings, found):
    """The rows of a transfer set that omits classes: before and after their biases are moved."""
    what, on, paper = OMITTED[name]
    classes = " and ".join(map(str, settings["shift"]["classes"]))
    verb = "raised" if settings["shift"]["paper"] > 0 else "lowered"
    rows = []
    for case, how in CHOSEN.items():
        moved = [part and part["moved"][case] for part in found]
        amounts = [abs(part["amount"]) for part in moved if part]
        shown = f"{statistics.mean(amounts):.1f}" if amounts else "-"
        text = f"transfer set {what}"
        if how:
            text += f", bias of {classes} {verb} by {shown} ({how})"
        wrong, wrong_on = paper.get(case, ("", ""))
        rows.append([text, *cells([part and part["errors"] for part in moved], len(found)), wrong])
        if on:
            rows.append([f"... of them on the {on}", *cells([part and part["on_classes"] for part in moved], len(found)), wrong_on])
    return rows


def table(results, parts):
    """The README's table.

    Args:
        results: what `hinton_mnist.py` wrote.
        parts: what it trains, by name.
    """
    seeds = [group for name, group in sorted(results.items()) if name.startswith("seed ")]
    rows, missing = [], [name for name in parts if not any(seed.get(name) for seed in seeds)]
    for name, settings in parts.items():
        if name in missing:
            continue
        found = [seed.get(name) for seed in seeds]
        errors = [part and part["errors"] for part in found]
        row = [text_of(name, settings), *cells(errors, len(seeds)), PAPER.get(name, "")] if name not in OMITTED else None
        rows += omitted(name, settings, found) if row is None else [row]
    teacher, student = parts["teacher"]["epochs"], parts["plain"]["epochs"]
    note = f"Test errors of 10,000 at the last epoch (teacher {teacher} epochs, students {student}), {len(seeds)} seeds"
    note += f". Not run yet: {', '.join(missing)}" if missing else ""
    return f"{common.markdown(['MNIST', 'errors (mean ± sd)', 'each seed', 'the paper'], rows)}\n\n{note} (`benchmarks/hinton_mnist.py`)."
