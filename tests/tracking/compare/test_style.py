"""The page's style and script."""

import re

from kdfuse.tracking.compare.charts import PAGE_COLOURS
from kdfuse.tracking.compare.style import SCRIPT, STYLE


def test_every_colour_is_there_in_light_and_in_dark() -> None:
    used = set(re.findall(r"var\((--\w+)\)", STYLE)) | {value[4:-1] for value in PAGE_COLOURS.values()}
    light, dark = re.findall(r":root \{(.*?)\}", STYLE)
    assert "prefers-color-scheme: dark" in STYLE
    assert used == set(re.findall(r"(--\w+):", light)) == set(re.findall(r"(--\w+):", dark))


def test_nothing_ends_its_element_early() -> None:
    assert "</" not in SCRIPT and "</" not in STYLE and SCRIPT.count("{") == SCRIPT.count("}")
