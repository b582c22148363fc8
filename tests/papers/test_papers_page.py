"""docs/papers.md names only code that an experiment calls."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PAGE = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"\(reference/[\w-]+\.md#[\w.]+\.(\w+)\)", PAGE))


def names(node: ast.AST) -> set[str]:
    """All that a piece of code mentions by name."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)
    }


def called_by_experiments() -> set[str]:
    """Names that the experiments mention, and what the definitions of these mention, and so on."""
    definitions: dict[str, set[str]] = defaultdict(set)
    reached: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        if "cli" in path.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                definitions[node.name] |= names(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name) and target.id != "__all__":
                        definitions[target.id] |= names(node.value)
            if "experiments" in path.parts and path.parent != SOURCE / "lorate_papers" / "experiments":
                reached |= names(node)
    new = set(reached)
    while new:
        new = set().union(*(definitions[name] for name in new if name in definitions)) - reached
        reached |= new
    return reached


def test_the_page_names_only_code_that_an_experiment_calls() -> None:
    reached = called_by_experiments()
    assert len(NAMED) > 12
    assert reached >= NAMED, f"no experiment calls {sorted(NAMED - reached)}"


def test_the_search_does_not_find_everything() -> None:
    assert {"reproduce", "lora_config", "calibrate"}.isdisjoint(called_by_experiments())
