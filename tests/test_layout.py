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

COMMUNICATES = ("_group.py", "collectives.py", "shuffle.py", "testing/")
LONGEST = 200
LONGER: dict[str, str] = {}
TOP = {"torch", "contrastive_ops"}  # what a module may import at its head, besides the standard library
TOP_IN_TESTING = TOP | {"hypothesis", "pytest"}
TRITON = [module for module in MODULES if module.startswith("kernels/_triton")]
# what modules may import too, as nothing imports them until a name or a tensor on a GPU asks for them
LATER = {"patch_embed.py": {"timm"}, **{module: {"triton"} for module in TRITON}}
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
    allowed |= LATER.get(module, set())
    assert {name.split(".")[0] for name in _uses(MODULES[module], functions=False)} <= allowed


@pytest.mark.parametrize("module", [m for m in MODULES if m not in LATER])
def test_nothing_imports_at_its_head_what_comes_later(module: str) -> None:
    later = {f"contrastive_ops.{path.removesuffix('.py').replace('/', '.')}" for path in LATER}
    assert not later & _uses(MODULES[module], functions=False)


def _fresh(script: str) -> list[str]:
    """What a script of its own process prints, in words."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("use", ["None", "dir(contrastive_ops)", "hasattr(contrastive_ops, 'x')"])
def test_importing_the_package_imports_nothing_heavy(use: str) -> None:
    loaded = _fresh(f"import contrastive_ops, sys; {use}; print(*sys.modules)")
    assert "contrastive_ops" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_every_name_is_there_whenever_it_is_imported() -> None:
    there = "import contrastive_ops as co; names = {*co.__all__}; print(names <= {*dir(co)});"
    starred = "from contrastive_ops import *; print(names <= {*dir()}, all(getattr(co, n) is eval(n) for n in names))"
    assert _fresh(there + starred) == ["True"] * 3
    with pytest.raises(AttributeError, match="'contrastive_ops' has no attribute 'nothing'"):
        contrastive_ops.nothing  # noqa: B018 (the access is the test)


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


# what every rank decides alike: whether there is a group, the mode of the module, a choice among the formula's forms
UNANIMOUS = {
    "group is None",
    "process_group is None and negative_keys is None and (mask is None)",
    "process_group is None",
    "process_group is not None",
    "handle.group is None",
    "handle.group is not None",
    "not self.training",
    "hard",
    "symmetric",
    "negative_keys is None",
    "negative_keys.ndim == 2",
    "negatives == 'time'",
    "negatives == 'batch'",
    "reduction == 'none'",
}


def _names_called(node: ast.AST) -> set[str]:
    return {ast.unparse(n.func).removeprefix("self.") for n in ast.walk(node) if isinstance(n, ast.Call)}


def _communicating() -> set[str]:
    """Names of the package's functions that reach a collective of torch, through whatever other functions."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8")) for m, path in MODULES.items() if not m.startswith("testing/")
    ]
    functions = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    calls = [(function.name, _names_called(function)) for function in functions]
    found = {"_Gather.apply", "_Exchange.apply", "_Sum.apply"}
    found |= {name for _, names in calls for name in names if re.match(r"dist\.(?!is_|get_)", name)}
    while True:
        more = {name for name, names in calls if names & found} - found - {"forward", "backward", "update", "enqueue"}
        if not more:
            return found
        found |= more


COMMUNICATING = _communicating()


def _called(node: ast.AST) -> set[str]:
    return _names_called(node) & COMMUNICATING


def _may_skip_one(branch: ast.AST) -> bool:
    """Whether it holds a collective or a way around those that follow; raising is no way around."""
    leaves = any(isinstance(n, (ast.Return, ast.Continue, ast.Break)) for n in ast.walk(branch))
    return bool(_called(branch)) or leaves


@pytest.mark.parametrize("module", MODULES)
def test_no_collective_depends_on_data_or_rank(module: str) -> None:
    """In a function that communicates every branch is one that all ranks take alike, or else it raises.

    A collective below an `if` on values is a deadlock that waits for the batch in which ranks differ.
    """
    if module.startswith("testing/"):
        return
    for function in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        if not _called(function):
            continue
        for branch in ast.walk(function):
            if isinstance(branch, (ast.If, ast.While, ast.IfExp)) and _may_skip_one(branch):
                assert ast.unparse(branch.test) in UNANIMOUS, f"{function.name}: if {ast.unparse(branch.test)}"
