"""Sphinx builds these pages: `python3 kd.py run sphinx-build docs docs/_build`."""

project = "kdfuse"
author = "the kdfuse authors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "kdfuse"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
