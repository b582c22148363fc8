"""Each example runs as a script, offline, and says at its end that something was learnt."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_learns(script, tmp_path):
    run = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    last = run.stdout.strip().splitlines()[-1]
    before, after = (float(value) for value in re.findall(r"([\d.]+)%? (?:before|after)", last))
    better = after > before + 20 if "accuracy" in last else after < before / 2
    assert better, last
    assert "violated" not in run.stdout and "UserWarning" not in run.stderr, run.stderr


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_is_named_in_the_documentation(script):
    pages = (ROOT / "docs").rglob("*.md")
    assert any(f"examples/{script.name}" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_is_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60
