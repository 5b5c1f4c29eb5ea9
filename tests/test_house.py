"""The numbers of the house, so that the code stays readable: lengths, headers, and who may print."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "raison"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 400, 60

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def test_the_package_is_found() -> None:
    assert len(FILES) > 50


@each_file
def test_a_file_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE
    header = ast.get_docstring(ast.parse(text))
    assert header or not text.strip(), "the first thing in a module is what it is for"


@each_file
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{node.name} in line {node.lineno} has {length} lines"


@each_file
def test_only_the_command_line_prints(path: Path) -> None:
    if path.is_relative_to(PACKAGE / "cli"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
        assert called not in ("print", "eval", "exec", "breakpoint"), f"{called} in line {node.lineno}"  # type: ignore[attr-defined]


def test_readme_names_every_extra_and_no_other() -> None:
    root = PACKAGE.parent
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    readme = (root / "README.md").read_text()
    assert {name for name in extras if f"| `{name}` |" in readme} == set(extras)
    said = [readme, *(path.read_text() for path in [*root.glob("docs/*.md"), *FILES])]
    named = {name for text in said for names in re.findall(r"raison\[([a-z,-]+)\]", text) for name in names.split(",")}
    assert named <= set(extras)
