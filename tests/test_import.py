"""The core stands on torch, numpy and scipy alone."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lorate.extras import MODULES

OPTIONAL = ("transformers", "peft", "accelerate", "trl", "datasets", "matplotlib", "typer", "rich", "yaml", "jinja2")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_importing_lorate_imports_no_extra_and_nothing_slow() -> None:
    use = "import lorate, sys; lorate.create_optimizer, lorate.Monitor"
    result = python(f"{use}; print([m for m in {(*OPTIONAL, 'scipy')!r} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_core_works_where_no_extra_is_installed() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        "import lorate, torch\n"
        "print(lorate.make_rule('normalized').name, lorate.Monitor().record)"
    )
    assert python(code).stdout.strip() == "normalized None"


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("transformers", "lorate.attach(None)", "hf"),
        ("matplotlib", "from lorate.report import write_report; write_report(['x'])", "report"),
        ("typer", "from lorate.cli import main; main()", "cli"),
        ("transformers", "from lorate.training import train", "hf"),
        ("transformers", "import lorate.calibration", "hf"),
        ("transformers", "import lorate.integrations.attach", "hf"),
        ("transformers", "from lorate.cli.app import run; sys.exit(run(['train']))", "hf"),
        ("transformers", "from lorate.cli.app import run; sys.exit(run(['alpha', 'calibrate']))", "hf"),
        (
            "matplotlib",
            "from lorate.training import TrainConfig, train; train(TrainConfig(data='no/such.jsonl'), 'no/such/run')",
            "report",
        ),
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
    assert not Path("no/such/run").exists()
    assert f"{module} is not installed; type: pip install 'lorate[{extra}]'" in result.stderr


def test_every_package_of_an_extra_is_known_by_the_name_it_is_imported_by() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    imported = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
    for extra, modules in MODULES.items():
        packages = [re.split(r"[><=\[]", line)[0] for line in project["optional-dependencies"][extra]]
        assert tuple(imported.get(package, package.replace("-", "_")) for package in packages) == modules
