"""What the documentation shows is true: code runs, links lead somewhere, commands and options exist."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import typer

from lorate.cli.app import app
from lorate.monitor.alarm import Kind

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "DESCRIPTION.md", *(ROOT / "docs").rglob("*.md")])

# a comment <!-- fragment --> in front of a block: it is compiled but not run; <!-- setup ... -->: run, not shown
CODE = re.compile(
    r"<!-- setup\n(?P<setup>.*?)-->"
    r"|(?P<fragment><!-- fragment[^>]*-->\s*)?```python *(?P<info>[^\n]*)\n(?P<code>.*?)```",
    re.DOTALL,
)
SHELL = re.compile(r"```(?:bash|console|sh|shell)\n(.*?)```", re.DOTALL)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> list[str]:
    """Every ``lorate ...`` that a page shows, in blocks and in the text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in SHELL.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(lorate [^`\n]+)`", FENCE.sub("", text))
    return [line.removeprefix("$ ").strip() for line in lines if line.removeprefix("$ ").startswith("lorate ")]


PAGES_WITH_CODE = [pytest.param(page, id=name(page)) for page in PAGES if CODE.search(page.read_text(encoding="utf-8"))]
COMMANDS = sorted({command for page in PAGES for command in commands(page)})


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")  # TRL's own default
@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_code_runs(page, tmp_path, monkeypatch):
    """The blocks of a page run one after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in CODE.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        code = compile(block["setup"] or block["code"], f"{name(page)}, block at line {line}", "exec")
        if not (block["fragment"] or "fragment" in (block["info"] or "")):
            exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_resolve(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        assert (page.parent / target.split("#")[0]).exists(), f"{name(page)}: no {target}"


@pytest.mark.parametrize("command", COMMANDS)
def test_command_parses(command):
    """Command and options exist, and the values have the right types."""
    words = [word for word in shlex.split(command, comments=True)[1:] if word != "--help"]  # which would end at once
    if not words or words[0].startswith("-"):
        words, group = [], typer.main.get_command(app).make_context("lorate", words, resilient_parsing=True)
        assert group is not None
        return
    found = typer.main.get_command(app).get_command(None, words[0])
    assert found is not None, f"no command {words[0]}"
    # `lorate train --resume` in a sentence is complete, `lorate report` alone is only a name
    found.make_context(words[0], [w for w in words[1:] if w != "..."], resilient_parsing=len(words) == 1)


def test_what_a_package_index_shows_has_no_relative_link_or_picture():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shown = (ROOT / project["readme"]).read_text(encoding="utf-8")
    assert all(target.startswith("https://") for target in LINK.findall(shown))
    assert "![" not in shown and "<img" not in shown and "<a " not in shown and "'.[" not in shown


def test_some_commands_were_found():
    assert len(COMMANDS) > 10


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name(page)}: no make {target}"


def test_make_alone_prints_every_target_with_what_it_does():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[1].split()
    assert sorted(re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE)) == sorted(targets)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "properdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs')}\n" in navigation


def test_every_alarm_is_explained():
    page = (ROOT / "docs" / "how-to" / "alarms.md").read_text(encoding="utf-8")
    assert {*get_args(Kind)} == set(re.findall(r"^\| `([a-z-]+)`", page, re.MULTILINE))


def test_pictures_are_small_and_shown():
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (ROOT / "docs" / "images").glob("*.png"):
        assert picture.stat().st_size < 150_000, f"{picture.name}: run make screenshots"
        assert f"images/{picture.stem}." in shown, f"no page shows {picture.name}"
