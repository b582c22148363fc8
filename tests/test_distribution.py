"""What `pip install` brings: wheel and sdist, in clean environments, with nothing of this checkout in reach.

Run by `make check-dist`, which builds into `dist/` first. The core's environment is a whole one, and so is that of
`all`. Those of the other extras borrow torch, numpy and scipy from the core's, which the core's own tests have shown to
hold nothing else.
"""

import email
import email.policy
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import lorate
from lorate.extras import MODULES

pytestmark = pytest.mark.distribution

ROOT = Path(__file__).parents[1]
LICENSE = f"lorate-{lorate.__version__}.dist-info/licenses/LICENSE"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

STAND_IN = """
import lorate
import torch
from torch import nn

class LoraLinear(nn.Module):  # PEFT's layer, as far as lorate looks at it
    merged = disable_adapters = False

    def __init__(self, inputs, outputs, r=2, lora_alpha=8):
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(inputs, r, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(r, outputs, bias=False)})
        self.lora_dropout = nn.ModuleDict({"default": nn.Identity()})
        self.lora_embedding_A = nn.ParameterDict()
        self.scaling = {"default": lora_alpha / r}
        self.active_adapters = ["default"]
        nn.init.zeros_(self.lora_B["default"].weight)

    def forward(self, x):
        return self.base_layer(x) + self.scaling["default"] * self.lora_B["default"](self.lora_A["default"](x))

torch.manual_seed(0)
model = nn.Sequential(LoraLinear(8, 16), nn.Tanh(), LoraLinear(16, 3))
x, y = torch.randn(64, 8), torch.randint(3, (64,))
losses = []

def closure():
    loss = nn.functional.cross_entropy(model(x), y)
    if loss.requires_grad:
        optimizer.zero_grad()
        loss.backward()
    return loss

for rate in ("auto", "adaptive", "majorizer", "backtracking"):
    options = {"smoothness": 1.0} if rate == "majorizer" else {}
    optimizer = lorate.create_optimizer(model, rule=rate, **options)
    with lorate.Monitor("runs/" + rate) as monitor:
        for _ in range(5):
            losses.append(float(optimizer.step(closure)))
            monitor.update(optimizer)
assert losses[-1] < losses[0], losses
"""

TRAIN = """
import peft
import torch
from transformers import Trainer, TrainingArguments
import lorate

class Regression(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)

    def forward(self, x, labels):
        return {"loss": (self.linear(x).squeeze(-1) - labels).square().mean()}

model = peft.get_peft_model(Regression(), peft.LoraConfig(r=2, target_modules=["linear"]))
arguments = TrainingArguments("out", max_steps=3, max_grad_norm=0, lr_scheduler_type="constant", report_to=[],
                              use_cpu=True, save_strategy="no", disable_tqdm=True, remove_unused_columns=False)
data = [{"x": torch.randn(4), "labels": torch.randn(())} for _ in range(64)]
lorate.attach(Trainer(model, arguments, train_dataset=data), monitor="runs/one").train()
assert len(open("runs/one/metrics.jsonl").readlines()) == 3
"""


class Environment:
    """A virtual environment, and a folder in which its commands run."""

    def __init__(self, place: Path, borrowed: "Environment | None" = None) -> None:
        venv.create(place, with_pip=False)
        self.place = place
        self.packages = Path(self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
        if borrowed is not None:
            (self.packages / "core.pth").write_text(f"{borrowed.packages}\n", encoding="utf-8")

    def run(self, *words: str, command: str = "python") -> subprocess.CompletedProcess[str]:
        """Run one of its commands in the folder above it, where no checkout is."""
        place = self.place / ("Scripts" if os.name == "nt" else "bin") / command
        return subprocess.run(
            [str(place), *words], cwd=self.place.parent, env=ENVIRONMENT, capture_output=True, text=True
        )

    def install(self, *what: str) -> None:
        """Install what is named, in the versions of constraints.txt; lorate itself even where it is borrowed."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.place), "install", "-q"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *what], env=ENVIRONMENT, check=True)
        again = ["--ignore-installed", "--no-deps", str(the("*.whl"))]
        subprocess.run([*pip, *again], env=ENVIRONMENT, check=True)

    def lorate(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command `lorate`."""
        return self.run(*words, command="lorate")

    def succeeds(self, code: str) -> str:
        """What a program prints that must end well."""
        result = self.run("-W", "error::FutureWarning:lorate", "-c", code)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def has(self) -> set[str]:
        """The names of the installed distributions."""
        names = "[d.metadata['Name'].lower() for d in m.distributions()]"
        return set(json.loads(self.succeeds(f"import json, importlib.metadata as m; print(json.dumps({names}))")))


def the(pattern: str) -> Path:
    """The one file of this version in dist/."""
    (found,) = (ROOT / "dist").glob(f"lorate-{lorate.__version__}{pattern}")
    return found


def contents(wheel: Path) -> dict[str, bytes]:
    """What is in each file of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("core") / "venv")
    environment.install(str(the("*.whl")))
    return environment


@pytest.fixture(scope="session", params=[*MODULES])
def extra(request: pytest.FixtureRequest, core: Environment, tmp_path_factory: pytest.TempPathFactory):
    environment = Environment(tmp_path_factory.mktemp(request.param) / "venv", borrowed=core)
    environment.install(f"lorate[{request.param}] @ {the('*.whl').as_uri()}")
    return request.param, environment


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("all") / "venv")
    environment.install(f"lorate[all] @ {the('*.whl').as_uri()}")
    return environment


def test_the_wheel_holds_the_package_and_its_files_and_nothing_else() -> None:
    names = contents(the("*.whl")).keys()
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ours = {name.removeprefix("src/") for name in tracked.splitlines()}
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert {"lorate/py.typed", "lorate/report/page_files/page.html.jinja", LICENSE} <= names


def test_the_description_has_no_link_that_leads_nowhere_on_a_package_index() -> None:
    (metadata,) = (text for name, text in contents(the("*.whl")).items() if name.endswith(".dist-info/METADATA"))
    description = str(email.message_from_bytes(metadata, policy=email.policy.default).get_payload())
    assert description.strip() == (ROOT / "DESCRIPTION.md").read_text(encoding="utf-8").strip()


def test_the_sdist_holds_what_its_tests_need_and_the_wheel_from_it_is_the_direct_one(tmp_path: Path) -> None:
    with tarfile.open(the(".tar.gz")) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    top = {path.name for path in source.iterdir()}
    assert {"src", "tests", "docs", "examples", "benchmarks", "LICENSE", "Makefile", "constraints.txt"} <= top
    assert not top & {"runs", "dist", "site", ".venv", ".git"}
    build = [sys.executable, "-m", "build", "--wheel", "-o", str(tmp_path), str(ROOT)]
    subprocess.run(build, env=ENVIRONMENT, check=True, capture_output=True)
    (direct,) = tmp_path.glob("*.whl")
    assert contents(direct) == contents(the("*.whl"))  # make dist builds that from the sdist


def test_the_core_brings_torch_numpy_and_scipy_and_no_extra(core: Environment) -> None:
    assert {"lorate", "torch", "numpy", "scipy"} <= core.has()
    modules = sorted({module for names in MODULES.values() for module in names} - {"jinja2"})  # torch brings jinja2
    there = f"import importlib.util; print([m for m in {modules} if importlib.util.find_spec(m)])"
    assert core.succeeds(there).strip() == "[]"


def test_the_core_trains_under_every_kind_of_rule(core: Environment) -> None:
    core.succeeds(STAND_IN)


def test_the_core_knows_its_version(core: Environment) -> None:
    printed = core.succeeds("import lorate, importlib.metadata as m; print(lorate.__version__, m.version('lorate'))")
    assert printed.split() == [lorate.__version__] * 2


def test_the_command_of_the_core_says_what_to_install(core: Environment) -> None:
    result = core.lorate("train")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "lorate: typer is not installed; type: pip install 'lorate[cli]'\n"


MISSING = [
    ("lorate.attach(None)", "transformers is not installed; type: pip install 'lorate[hf]'"),
    ("import lorate.training; lorate.training.train", "transformers is not installed; type: pip install 'lorate[hf]'"),
    ("import lorate.calibration", "transformers is not installed; type: pip install 'lorate[hf]'"),
    ("lorate.scaling.lora_config(8)", "peft is not installed; type: pip install 'lorate[hf]'"),
    ("lorate.report.write_report(['x'])", "matplotlib is not installed; type: pip install 'lorate[report]'"),
    (
        "lorate.sweep.run_missing(runs, lorate.sweep.SweepFolder.make_or_resume(pathlib.Path('y'), {}), jobs=2)",
        "joblib is not installed; type: pip install 'lorate[experiments]', or use a single process: --jobs 1",
    ),
    (
        "import lorate_papers.experiments.runner as r; r.reproduce('logistic', pathlib.Path('x'))",
        "matplotlib is not installed; type: pip install 'lorate[report]'",
    ),
]


def test_the_core_says_which_extra_is_missing(core: Environment) -> None:
    said = core.succeeds(f"""
import json, pathlib
import lorate, lorate.report, lorate.scaling, lorate.sweep
runs = [lorate.sweep.Run(str(number), dict, {{}}) for number in range(2)]
said = []
for code in {[code for code, _ in MISSING]}:
    try:
        exec(code)
    except lorate.errors.MissingExtraError as error:
        said.append([code, str(error)])
print(json.dumps(said))
""")
    assert [tuple(pair) for pair in json.loads(said)] == MISSING


def test_an_extra_brings_its_packages_and_pip_finds_them_consistent(extra: tuple[str, Environment]) -> None:
    name, environment = extra
    environment.succeeds("; ".join(f"import {module}" for module in MODULES[name]))
    check = [sys.executable, "-m", "pip", "--python", str(environment.place), "check"]
    subprocess.run(check, env=ENVIRONMENT, check=True)


def test_what_an_extra_is_for_works(extra: tuple[str, Environment]) -> None:
    name, environment = extra
    if name == "hf":
        environment.succeeds(TRAIN)
    if name == "cli":
        assert environment.lorate("--version").stdout.strip() == lorate.__version__
        assert "backtracking" in environment.lorate("rules").stdout
        missing = environment.lorate("train")
        assert (missing.returncode, missing.stdout) == (2, "")
        assert missing.stderr == "lorate: transformers is not installed; type: pip install 'lorate[hf]'\n"
    if name == "report":
        environment.succeeds(STAND_IN)
        environment.succeeds("import lorate.report; lorate.report.write_report(['runs/auto'])")
        assert "<svg" in (environment.place.parent / "runs/auto/report.html").read_text(encoding="utf-8")
    if name == "experiments":
        sweep = "runs, SweepFolder.make_or_resume(pathlib.Path('z'), {}), jobs=2"
        code = "import pathlib; from lorate.sweep import *; runs = [Run(str(n), dict, {}) for n in range(2)]"
        assert environment.succeeds(f"{code}; print(run_missing({sweep})[1])").strip() == "2"


def test_all_is_enough_for_an_experiment_and_a_report(everything: Environment) -> None:
    modules = [module for names in MODULES.values() for module in names]
    everything.succeeds("; ".join(f"import {module}" for module in modules))
    result = everything.lorate("reproduce", "burer-monteiro", "--quick", "--output", "runs/quick")
    assert result.returncode == 0, result.stderr
    assert (everything.place.parent / "runs/quick/report.html").exists()
