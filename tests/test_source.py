"""What CONTRIBUTING.md promises of the source, as far as a machine can tell."""

import ast
import dataclasses
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lorate

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGES = ("lorate", "lorate_papers")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LAYERS = {
    package: [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`\w+`.*?) \|", table, re.MULTILINE)]
    for package, table in re.findall(r"^\| packages in `src/(\w+)` .*\n((?:\|.*\n)*)", CONTRIBUTING, re.MULTILINE)
}
"""For each package the parts in each row of CONTRIBUTING.md's table, the lowest first."""


def find(path: str) -> Any:
    """The object that a page of the reference names."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"no {path}")


def members(name: str, found: Any) -> Iterator[tuple[str, Any]]:
    """An object and what is public in it: of a module its functions and classes, of a class its methods."""
    if isinstance(found, ModuleType):
        own = [key for key, value in vars(found).items() if getattr(value, "__module__", None) == found.__name__]
        for key in getattr(found, "__all__", [key for key in own if not key.startswith("_")]):
            yield from members(f"{name}.{key}", getattr(found, key))
    elif inspect.isclass(found):
        yield name, found
        for key, value in vars(found).items():
            value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(value) and not key.startswith("_"):
                yield f"{name}.{key}", value
    elif inspect.isfunction(found):
        yield name, found


def references() -> dict[str, Any]:
    """All that the pages of the reference show, by name."""
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")]
    paths = {path for page in pages for path in re.findall(r"^::: ([\w.]+)", page, re.MULTILINE)}
    return dict(pair for path in sorted(paths) for pair in members(path, find(path)))


PUBLIC = references()


def parameters(found: Any) -> list[str]:
    """Names of what a caller passes; a callback that transformers calls has none."""
    if dataclasses.is_dataclass(found):
        names = [field.name for field in dataclasses.fields(found) if field.init]
    elif inspect.isclass(found):
        names = [*inspect.signature(found.__init__).parameters] if "__init__" in vars(found) else []
    else:
        names = (
            []
            if re.match(r"LorateCallback\.on_(?!alarm)", found.__qualname__)
            else [*inspect.signature(found).parameters]
        )
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def described(text: str) -> set[str]:
    """Names that the sections Args and Attributes of a docstring explain."""
    sections = re.findall(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    entries = re.findall(r"^    ([\w, *]+):", "\n".join(sections), re.MULTILINE)
    return {name.strip(" *") for entry in entries for name in entry.split(",")}


def documentation(found: Any) -> str:
    """Its docstring, with that of ``__init__``."""
    initialise = vars(found).get("__init__") if inspect.isclass(found) else None
    texts = (
        vars(found).get("__doc__") if inspect.isclass(found) else found.__doc__,
        getattr(initialise, "__doc__", None),
    )
    return "\n\n".join(inspect.cleandoc(text) for text in texts if text)


def inherited(found: Any) -> str:
    """What the base classes of a method's class say about the same method."""
    owner, _, method = getattr(found, "__qualname__", "").rpartition(".")
    cls = getattr(inspect.getmodule(found), owner, None) if owner else None
    bases = cls.__mro__[1:] if inspect.isclass(cls) else ()
    return "\n\n".join(documentation(vars(base)[method]) for base in bases if method in vars(base))


def unexplained(name: str, found: Any) -> list[str]:
    """Parameters of a function with three or more that neither its docstring nor the one it points to explains."""
    text = documentation(found)
    known = described(text) | set(re.findall(r"``(\w+)``", text))
    for other in re.findall(r"[Aa]rguments(?:\s+and\s+errors)?\s+as\s+in\s+`(\w+)`", text):
        known |= described(documentation(getattr(inspect.getmodule(found), other)))
    known |= described(inherited(found))
    names = parameters(found)
    return [parameter for parameter in names if parameter not in known] if len(names) >= 3 else []


def test_the_reference_was_read() -> None:
    assert len(PUBLIC) > 200
    assert {"lorate.create_optimizer", "lorate.Monitor.update", "lorate.rules.Auto"} <= PUBLIC.keys()


def test_every_public_name_has_a_docstring() -> None:
    assert [name for name, found in PUBLIC.items() if not documentation(found)] == []


def test_every_parameter_is_explained_where_there_are_three_or_more() -> None:
    missing = {name: unexplained(name, found) for name, found in PUBLIC.items()}
    assert {name: names for name, names in missing.items() if names} == {}


def test_every_function_and_class_of_the_package_is_in_the_reference() -> None:
    shown = {name.rpartition(".")[2] for name in PUBLIC}
    assert [name for name in lorate.__all__ if callable(getattr(lorate, name)) and name not in shown] == []


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCE.rglob("*.py")}
    assert {str(path.relative_to(SOURCE)): length for path, length in lengths.items() if length > 300} == {}


PROVED_ONLY = {
    *("factor_load", "paper_descent_bound", "tight_descent_bound", "relative_smoothness"),
    *("adagrad_bound", "best_fraction", "growing_noise_bound", "mean_square_bound", "raw_gradient_bound"),
}
"""Lemmas of docs/mathematics that no rule evaluates: the tests check what the rules rest on with them."""


def named_in_code(path: Path) -> set[str]:
    """Every name that a file uses; an import alone uses nothing, unless it gives the name another one."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias) and node.asname not in (None, node.name):
            names.add(node.name.rpartition(".")[2])
        elif isinstance(node, ast.Constant) and (place := re.fullmatch(r"[\w.]+:(\w+)", str(node.value))):
            names.add(place[1])  # as in an entry point
    return names


def named_in_prose(path: Path) -> set[str]:
    """Every word between backquotes: what a page tells its reader to call."""
    text = path.read_text(encoding="utf-8")
    return set(re.findall(r"\w+", " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))))


def defined(node: ast.AST) -> Iterator[str]:
    """Public functions, classes and methods in a file, but for those that typer or a Trainer calls."""
    for child in getattr(node, "body", []):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            continue
        decorators = {ast.unparse(decorator).partition("(")[0].rpartition(".")[2] for decorator in child.decorator_list}
        called_back = decorators & {"command", "callback"} or re.match("on_", child.name)
        if not child.name.startswith("_") and not called_back:
            yield child.name
        if isinstance(child, ast.ClassDef):
            yield from defined(child)


def test_everything_public_has_a_caller_outside_the_tests() -> None:
    """By name only: two functions of one name hide each other."""
    code = [path for place in ("src", "benchmarks", "docs", "examples") for path in (ROOT / place).rglob("*.py")]
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts]
    used = set().union(*map(named_in_code, code), *map(named_in_prose, [*pages, ROOT / "README.md"]))
    public = {name: path for path in SOURCE.rglob("*.py") for name in defined(ast.parse(path.read_text("utf-8")))}
    assert {name: path.name for name, path in public.items() if name not in used | PROVED_ONLY} == {}


def imported(path: Path, package: str) -> set[str]:
    """Parts of a package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{name}" for name in names]
        found |= {f"{name}.".split(".")[1] for name in names if f"{name}.".startswith(f"{package}.")}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_imports_upwards(package: str) -> None:
    root = SOURCE / package
    height = {part: row for row, parts in enumerate(LAYERS[package]) for part in parts}
    inside = {path: path.relative_to(root).parts[0].removesuffix(".py") for path in root.rglob("*.py")}
    assert set(inside.values()) - {"__init__", "__main__"} == height.keys(), "CONTRIBUTING.md's table of layers"
    upwards = [
        f"{path.relative_to(root)} imports {part}"
        for path, own in inside.items()
        if own in height
        for part in sorted(imported(path, package) & height.keys())
        if height[part] > height[own]
    ]
    assert upwards == []


def test_the_package_of_the_papers_is_never_imported_by_the_other() -> None:
    assert [str(path) for path in (SOURCE / "lorate").rglob("*.py") if imported(path, "lorate_papers")] == []
    assert any(imported(path, "lorate") for path in (SOURCE / "lorate_papers").rglob("*.py"))


def test_the_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == lorate.__version__
    assert re.search(r"^## (\d+\.\d+\.\d+)", changes, re.MULTILINE)[1] == lorate.__version__
