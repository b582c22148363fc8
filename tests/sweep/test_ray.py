"""Sweeps on a Ray cluster of this machine: the numbers of joblib, kept as they come, resumed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _regret.runs import all_runs
from _regret.settings import Setting

from calibration.test_calibrate import World
from lorate.calibration import Sweep, calibrate, halving
from lorate.cli.app import run
from lorate.errors import LorateError
from lorate.sweep import Run, run_missing
from lorate.sweep.backends import Backend, execute
from lorate.sweep.folder import SweepFolder
from lorate_papers.experiments import EXPERIMENTS
from papers.experiments.toy import EXPERIMENT, die, slow_square

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "toy", "papers.experiments.toy:EXPERIMENT")
    monkeypatch.setattr(EXPERIMENT, "log", str(tmp_path / "log"), raising=False)


def test_without_ray_the_line_to_type_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["reproduce", "toy", "--backend", "ray", "-o", str(tmp_path / "run")]) == 2
    assert "ray is not installed; type: pip install 'lorate[ray]'" in capsys.readouterr().err
    assert run(["reproduce", "toy", "--backend", "slurm"]) == 2


@pytest.fixture(scope="module")
def settings() -> Iterator[None]:
    """The workers find the tests, listen on 127.0.0.1 only, and do not give way to other processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ":".join([str(TESTS), str(TESTS.parent / "benchmarks"), *filter(None, sys.path)]))
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
def test_an_address_without_a_cluster_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(LorateError, match="Ray cannot be started or reached at 'nowhere': "):
        list(execute([Run("fatal", die, {})], None, Backend.RAY))


@pytest.fixture(scope="module")
def cluster(settings: None) -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestOnRay:
    def test_reproduce_gives_the_same_and_keeps_what_was_finished(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["reproduce", "toy", "--jobs", "1", "-o"]
        assert run([*words, str(tmp_path / "joblib")]) == 0
        monkeypatch.setattr(EXPERIMENT, "numbers", (1, 2, 14, 3), raising=False)
        assert run([*words, str(tmp_path / "ray"), "--backend", "ray"]) == 2
        error = capsys.readouterr().err
        assert "14 is not squared." in error and "Traceback" not in error and "ray::" not in error
        kept = {file.stem for file in (tmp_path / "ray" / "finished").iterdir()}
        assert kept == {"square-1", "square-2"}  # one at a time, so the failure came third
        monkeypatch.setattr(EXPERIMENT, "numbers", (1, 2, 3), raising=False)
        (tmp_path / "log").unlink()
        assert run([*words, str(tmp_path / "ray"), "--backend", "ray"]) == 0
        assert (tmp_path / "log").read_text().split() == ["3"]
        lines = [(tmp_path / name / "results.jsonl").read_text().splitlines() for name in ("joblib", "ray")]
        one, two = ([{**json.loads(line), "seconds": 0} for line in several] for several in lines)
        assert one == two

    def test_calibrate_gives_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World(c=800.0)
        monkeypatch.setattr(halving, "train_point", world)
        sweep = Sweep(ranks=(1, 4, 16), alphas=(256, 1024, 4096, 16384), seeds=1)
        two = calibrate(sweep, tmp_path / "ray", backend=Backend.RAY)
        assert not world.calls  # the workers have copies of their own
        assert calibrate(sweep, tmp_path / "joblib", jobs=1).content == two.content

    def test_the_regret_benchmark_gives_the_same(self, tmp_path: Path) -> None:
        tiny = Setting("matrix", 2, 4, batch=8, steps=6, quick=True)
        runs = list(all_runs((tiny,), methods=("auto", "prodigy"), seeds=(0, 1)))
        results = []
        for backend, jobs in ((Backend.JOBLIB, 1), (Backend.RAY, 2)):
            folder = SweepFolder.create(tmp_path / backend)
            records, done = run_missing(runs, folder, jobs, None, backend)
            assert done == len(runs)
            results.append([{**record["result"], "seconds": 0, "cpu_seconds": 0} for record in records.values()])
        assert results[0] == results[1]

    def test_a_run_comes_as_soon_as_it_is_done(self, tmp_path: Path) -> None:
        log = str(tmp_path / "log")
        runs = [Run(f"square-{n}", slow_square, {"number": n, "log": log}) for n in (3, 0)]
        assert [place for place, _, _ in execute(runs, 2, Backend.RAY)] == [1, 0]

    def test_a_worker_that_dies_is_a_sentence(self) -> None:
        fatal = Run("fatal", die, {})
        with pytest.raises(LorateError, match="Ray lost a run"):
            list(execute([fatal], 1, Backend.RAY))


OWN = """
import sys
from papers.experiments.toy import node
from lorate.sweep.backends import Backend, execute
from lorate.sweep import Run
print([result for _, result, _ in execute([Run("node", node, {})], None, Backend.RAY)])
print(sys.modules["ray"].is_initialized())
"""


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
def test_a_cluster_of_its_own_is_out_of_reach_and_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    command = [sys.executable, "-W", "error", "-c", OWN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[{'ip': '127.0.0.1'}]\nFalse\n", "")
