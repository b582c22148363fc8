"""The core stands on torch, numpy and scipy alone."""

import subprocess
import sys

import pytest

OPTIONAL = ("transformers", "peft", "accelerate", "trl", "datasets", "matplotlib", "typer", "rich", "yaml", "jinja2")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_importing_lorate_imports_no_extra() -> None:
    result = python(f"import lorate, sys; print([m for m in {OPTIONAL!r} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_core_works_where_no_extra_is_installed() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        "import lorate, torch\n"
        "print(lorate.make_rate('normalized').name, lorate.Monitor().record)"
    )
    assert python(code).stdout.strip() == "normalized None"


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("transformers", "lorate.for_trainer('normalized')", "hf"),
        ("matplotlib", "from lorate.report import write_report; write_report(['x'])", "report"),
        ("typer", "from lorate.cli import main; main()", "cli"),
    ],
)
def test_a_missing_extra_names_the_line_to_type(module: str, call: str, extra: str) -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {module!r}:\n"
        f"            raise ModuleNotFoundError(f'No module named {{name}}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"import lorate; {call}"
    )
    result = python(code)
    assert result.returncode != 0
    assert f"{module} is not installed; type: pip install 'lorate[{extra}]'" in result.stderr
