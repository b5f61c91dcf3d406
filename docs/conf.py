"""Sphinx builds these pages: `python3 kd.py run sphinx-build docs docs/_build`."""

project = "kdfuse"
author = "the kdfuse authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "none"
autodoc_inherit_docstrings = False
napoleon_use_ivar = True
default_role = "code"
python_maximum_signature_line_length = 100
html_theme = "furo"
html_title = "kdfuse"
html_show_copyright = False
exclude_patterns = ["_build"]
myst_heading_anchors = 3


def examples(app, what, name, obj, options, lines):
    """The code below `Example:` in a docstring, as code."""
    found, inside = [], False
    for line in lines:
        inside = line.strip() == "Example:" or (inside and (not line.strip() or line.startswith(" ")))
        if inside and line.strip() != "Example:":
            line = f"    {line}"
        found += [line, "    .. code-block:: python", ""] if line.strip() == "Example:" else [line]
    lines[:] = found


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", examples, priority=100)
