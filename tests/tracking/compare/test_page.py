"""The page."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from kdfuse.tracking.compare import page as pages
from kdfuse.tracking.compare.comparison import Comparison, compare


def page(found: Comparison) -> str:
    return pages.page(found, found._groups, found._records)


class Reader(HTMLParser):
    """Checks that elements close, and keeps headings and cells."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    return reader


def test_real_runs_have_every_part(digits: str) -> None:
    found = compare(digits)
    text = page(found)
    reader = read(text)
    assert reader.texts["h1"] == ["digits"] and reader.texts["h3"] == ["chain"]
    assert reader.texts["h2"][:3] == ["Quality against cost", "Curves", "Chains, step by step"]
    assert {"teacher", "student", "Repeat", "chain", "1. Prune"} <= set(reader.texts["td"])
    assert [tag for tag, _ in reader.seen].count("svg") == 6 + 2 + 1  # three costs on two splits, two curves, one chain
    value = next(float(text) for _, given in reader.seen if (text := given.get("data-value") or "").startswith("0."))
    assert value == found.rows[0]["validation/accuracy"]


def test_it_needs_nothing_from_elsewhere(digits: str) -> None:
    text = page(compare(digits))
    for tag, given in read(text).seen:
        assert tag not in ("link", "iframe", "img") and "src" not in given
        assert not (given.get("href") or given.get("xlink:href") or "#").startswith(("http", "//"))
    assert not re.search(r"@import|url\(\s*['\"]?https?:", text) and "default-src 'none'" in text


def test_names_are_texts(add: Callable[..., Any]) -> None:
    bad = "<script>alert('$1')</script>&\x1b[31m\n$"
    for place, name in enumerate((bad, "plain")):
        metrics = {"validation/accuracy": 0.5 + place / 10, "test/accuracy": 0.5, "cost/macs": 5 + place, "size/keras_bytes": 9}
        add(name, metrics, {"why": bad if place else "x"}, history={"validation/loss": [2.0, 1.0]})
    text = page(compare("made up"))
    assert text.count("<script>") == 1 and "&lt;script&gt;alert" in text and "\x1b" not in text
    reader = read(text)
    assert "<script>alert('$1')</script>& [31m $" in reader.texts["td"]
    assert reader.texts["h2"] == ["Quality against cost", "Curves", "Settings that differ"]


def test_with_little_to_show(add: Callable[..., Any]) -> None:
    add("one", {"test/accuracy": 0.5}, history={"validation/loss": [float("nan")], "train/loss": [1.0]})
    reader = read(page(compare("made up")))
    assert reader.texts["h2"] == ["Curves"] and reader.texts["p"][0] == "1 row of 1 run, 0 on the Pareto front"
