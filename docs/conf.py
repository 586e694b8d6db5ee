"""How Sphinx builds the site: `sphinx-build -W -n docs docs/_build/html`."""

from __future__ import annotations

import re
from typing import Any

import contrastive_ops

project = "contrastive-ops"
author = "The contrastive-ops developers"
copyright = author
release = version = contrastive_ops.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
smartquotes_action = "D"  # dashes, but no quotation marks: those in docstrings are code
html_theme = "furo"
html_title = f"contrastive-ops {release}"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autosummary_generate = False  # the pages of docs/api are the reference, each entry in full
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_type_aliases = {"Group": "Group"}
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# what other projects document: an inventory would have to be downloaded, and a build must not need that
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|nn|collections|Tensor|Generator|Module|Iterable|Sequence)\b.*"),
    (r"py:.*", r"contrastive_ops\.patch_embed\.ModuleT"),
    (r"py:.*", r"contrastive_ops\.testing\._\w+\.\w+"),
    (r"py:.*", r"(st|strategies|hypothesis)\..*"),
    (r"py:.*", r"(SearchStrategy|Callable|Law|Loss|Inputs|Size|LawViolation|object|Any|dtype)\b.*"),
    (r"py:.*", r"(ValueError|TypeError|Group|ShuffleHandle|contrastive_ops\.shuffle\.ShuffleHandle)"),
    (r"py:.*", r"(bool|float|int|str|None|list|tuple|optional|Literal.*)"),
]


def markdown_to_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written to be read as they stand, in Markdown; Sphinx reads reStructuredText."""
    text = "\n".join(lines)
    text = re.sub(r"^( *)\$\$(.+?)\$\$", _display, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\$([^$\n]+)\$", r":math:`\1`", text)
    text = re.sub(r"(?<![`:\w])`([^`\n]+)`(?!`)", _code, text)
    text = re.sub(r"(?:^ *\|.*\|$\n?)+", _table, text, flags=re.MULTILINE)
    lines[:] = text.split("\n")


def _display(match: re.Match[str]) -> str:
    indent, formula = match.groups()
    body = "\n".join(f"{indent}   {line.strip()}" for line in formula.splitlines())
    return f"{indent}.. math::\n\n{body}\n"


def _code(match: re.Match[str]) -> str:
    name = match[1]
    return f":py:obj:`~contrastive_ops.{name}`" if name in contrastive_ops.__all__ else f"``{name}``"


def _table(match: re.Match[str]) -> str:
    header, _, *rows = match[0].strip("\n").splitlines()
    out = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        first, *others = (cell.strip() for cell in row.strip().strip("|").split("|"))
        out += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    return "\n".join([*out, "", ""])


def setup(app: Any) -> None:
    """Convert before napoleon (priority 500) reads the sections."""
    app.connect("autodoc-process-docstring", markdown_to_rst, priority=400)
