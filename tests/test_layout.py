"""What the sources look like: who communicates, how long a file is, what a docstring holds, what is documented."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import contrastive_ops
import contrastive_ops.testing

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "contrastive_ops"
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))

COMMUNICATES = ("_group.py", "collectives.py", "testing/")
LONGEST = 200
LONGER = {
    "collectives.py": "gather, shuffle and sum share one protocol: agree on sizes first, then move rows as bytes",
    "views/_color.py": "six short augmentations on one page; more than half is their docstrings",
}
TOP = {"torch", "contrastive_ops"}  # what a module may import at its head, besides the standard library
TOP_IN_TESTING = TOP | {"hypothesis", "pytest"}
HEAVY = ("timm", "torch_ema", "matplotlib", "sklearn", "hypothesis", "pytest", "tensorboard", "tyro", "safetensors")
SECTIONS = ["Args", "Attributes", "Returns", "Raises", "Example", "References"]


def _nodes(tree: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """All nodes that run, so none below `if TYPE_CHECKING`; with or without the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if not functions and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        yield node
        yield from _nodes(node, functions=functions)


def _uses(path: Path, *, functions: bool) -> set[str]:
    """Modules that a file imports, and torch.distributed where it is reached as an attribute."""
    found = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), functions=functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.distributed"):
            found.add("torch.distributed")
    return found


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(COMMUNICATES)])
def test_only_the_collectives_communicate(module: str) -> None:
    uses = _uses(MODULES[module], functions=True)
    assert not [name for name in uses if name.startswith("torch.distributed")]


@pytest.mark.parametrize("module", MODULES)
def test_heavy_imports_are_made_where_they_are_used(module: str) -> None:
    allowed = (TOP_IN_TESTING if module.startswith("testing/") else TOP) | sys.stdlib_module_names
    assert {name.split(".")[0] for name in _uses(MODULES[module], functions=False)} <= allowed


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import contrastive_ops, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "contrastive_ops" in loaded
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_file_is_one_idea(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST or module in LONGER, f"{lines} lines: split it, or give the reason in LONGER"


def _sections(name: str) -> dict[str, str]:
    """Title and text of each section of a public name's docstring."""
    parts = re.split(r"^([A-Z]\w+):$", inspect.getdoc(getattr(contrastive_ops, name)) or "", flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", contrastive_ops.__all__)
def test_docstrings_teach(name: str) -> None:
    value: Any = getattr(contrastive_ops, name)
    signature, sections = inspect.signature(value), _sections(name)
    wanted = {"Raises", "Example", "References"}
    wanted |= {"Args"} if signature.parameters else set()
    wanted |= {"Returns"} if inspect.isfunction(value) and signature.return_annotation not in ("None", None) else set()
    assert wanted <= sections.keys() <= set(SECTIONS)
    assert list(sections) == sorted(sections, key=SECTIONS.index)
    assert ">>> " in sections["Example"]
    documented = re.findall(r"^    (\w+): ", sections.get("Args", ""), flags=re.MULTILINE)
    assert documented == list(signature.parameters)
    summary, blank, *_ = (inspect.getdoc(value) or "").splitlines()
    assert summary.endswith((".", "?"))
    assert not blank


def test_the_reference_holds_every_public_name() -> None:
    documented = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        entries = re.findall(r"^\.\. auto(?:function|class):: (\w+)$", text, flags=re.MULTILINE)
        assert entries == re.findall(r"^   (\w+)$", text, flags=re.MULTILINE), (
            f"{page.name}: the table and the entries"
        )
        documented += entries
    kit = contrastive_ops.testing
    public = [*contrastive_ops.__all__, *kit.__all__, *kit.laws.__all__, *kit.strategies.__all__]
    assert sorted(documented) == sorted(public)
