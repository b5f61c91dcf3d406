"""The gallery shows every recipe, from committed results: nothing on it was typed by hand, and no picture is missing or left over."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
IMAGES = ROOT / "docs" / "images" / "gallery"


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    """`benchmarks/gallery.py`, without what it puts on the path."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "benchmarks" / "gallery.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        spec.loader.exec_module(module)
    return module


def test_every_recipe_has_a_section_with_its_command_and_what_a_run_gave(gallery: ModuleType) -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
    assert sorted(sections) == sorted(gallery.PLOTS) == RECIPES
    kept = gallery.common.load("gallery")
    for recipe, text in sections.items():
        assert re.search(rf"^    python3 kd.py (run python recipes/{recipe}\.py|{recipe})$", text, re.MULTILINE), recipe
        assert kept[recipe]["tables"] and [(one["run"], one["plot"]) for one in kept[recipe]["plots"]] == gallery.PLOTS[recipe]


def test_every_picture_exists_and_is_used_and_small() -> None:
    named = re.findall(r"!\[.+?\]\(images/gallery/(.+?)\)", PAGE)
    assert sorted(named) == sorted(path.name for path in IMAGES.iterdir())
    for path in IMAGES.iterdir():
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG") and int.from_bytes(head[16:20], "big") <= 900 and path.stat().st_size < 60_000, path.name


def test_the_page_is_what_the_results_say(gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "gallery.md"
    page.write_text(re.sub(r"(<!-- table: .*? -->\n).*?(<!-- /table -->)", r"\1\2", PAGE, flags=re.DOTALL), encoding="utf-8")
    monkeypatch.setattr(gallery.common, "PAGES", (page,))
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--table"])
    gallery.main()
    assert page.read_text(encoding="utf-8") == PAGE


def test_a_printed_table_is_read_and_what_is_around_it_is_not(gallery: ModuleType) -> None:
    from kdfuse.report import format_table

    rows = [{"model": "a, b", "test/accuracy": 0.5, "latency/p50_ms": 2.0}, {"model": "c", "latency/p50_ms": 0.25}]
    text = f"said before\n{format_table(rows)}\n- a note of the report, longer than the table is wide\nThe best member is c.\n"
    titles = ["model", "accuracy", "latency (ms)"]
    assert gallery.tables(text)[0] == [titles, ["a, b", "0.5000", "2"], ["c", "", "0.25"]]
