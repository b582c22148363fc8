"""What is shown while a run goes on, where standard error is a file."""

import http.server
import io
import logging
import math
import re
from concurrent.futures import ThreadPoolExecutor

import datasets
import datasets.arrow_dataset
import pytest
from huggingface_hub.file_download import http_get
from huggingface_hub.utils.tqdm import _get_progress_bar_context
from rich.progress import Progress

from lorate.cli import progress
from lorate.cli.progress import CountColumn, LeftColumn, TerminalListener
from lorate.tasks import quiet
from lorate.tasks.progress import MB, counted, told


def record(step: int) -> dict[str, float | None]:
    return {"step": step, "loss": None if step == 2 else 1.25, "eta": 1e-5, "stacked_norm": 3.0}


def test_the_bar_counts_and_estimates_only_towards_a_known_total() -> None:
    bar = Progress(CountColumn(), LeftColumn(), get_time=iter(range(100)).__next__)
    name = bar.add_task("Reading the data", total=None)
    shown = [column.render(bar.tasks[0]).plain for column in bar.columns]
    assert shown == ["", ""]
    bar.update(name, total=40)
    for _ in range(7):
        bar.advance(name)
    assert bar.columns[0].render(bar.tasks[0]).plain == "7/40"
    assert re.fullmatch(r"\d:\d\d:\d\d left", bar.columns[1].render(bar.tasks[0]).plain)


def test_a_phase_forgets_the_total_of_the_one_before() -> None:
    listener = TerminalListener()
    listener.progress(6, 6)
    listener.phase("Setting up the trainer")
    (task,) = listener._progress.tasks
    assert (task.total, task.completed, task.finished) == (None, 0, False)


def test_a_log_file_gets_a_line_every_tenth_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalListener() as listener:
        listener.phase("Training")
        for step in range(1, 26):
            listener.step(record(step), 25)
        listener.evaluation(25, 0.5, 0.25)
        listener.evaluation(25, 0.5, math.nan)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Training"
    assert [line.split()[1] for line in lines[1:-2]] == [f"{step}/25" for step in (1, *range(2, 25, 2), 25)]
    assert lines[1] == "step 1/25  loss 1.25  η 1e-05  ‖V‖ 3" and "loss –" in lines[2]
    assert lines[-2:] == [
        "Held-out loss at step 25: 0.5000 (± 0.2500 over examples)",
        "Held-out loss at step 25: 0.5000",
    ]


def test_what_takes_long_says_how_much_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with TerminalListener() as listener:
        listener.phase("Tokenising")
        for done in range(100, 40_100, 100):
            clock[0] += 0.5
            listener.progress(done, 40_000)
        for done in range(1, 5):  # a short loop in the same phase says nothing
            clock[0] += 1
            listener.progress(done, 4)
        listener.step(record(1), 1000)
        for done in range(1, 20):
            clock[0] += 1
            listener.progress(done, 40)
    assert capsys.readouterr().err.splitlines() == [
        "Tokenising",
        "  1,200 of 40,000, 3 min 14 s left",
        "  2,400 of 40,000, 3 min 8 s left",
        "  4,800 of 40,000, 2 min 56 s left",
        "  9,600 of 40,000, 2 min 32 s left",
        "  19,200 of 40,000, 1 min 44 s left",
        "  31,300 of 40,000, 43.5 s left",
        "step 1/1000  loss 1.25  η 1e-05  ‖V‖ 3",
        "  evaluating 7 of 40, 33.0 s left",
        "  evaluating 14 of 40, 26.0 s left",
    ]


def test_loops_of_the_libraries_and_of_lorate_tell_how_far_they_are() -> None:
    heard: list[tuple[object, ...]] = []
    rows, bar = datasets.Dataset.from_dict({"a": range(1000)}), datasets.arrow_dataset.hf_tqdm
    with told(lambda *how_far: heard.append(how_far)), quiet():
        rows.map(lambda row: {"b": row["a"]})
    assert heard[-1] == (1000, 1000)
    assert datasets.arrow_dataset.hf_tqdm is bar
    heard.clear()
    with told(lambda *how_far: heard.append(how_far)):
        assert [*counted(range(250), 250)] == [*range(250)]
    assert [*counted(range(250), 250)] == [*range(250)]
    assert heard == [(100, 250), (200, 250)]


class Weights(http.server.BaseHTTPRequestHandler):
    """A file of 25 MB."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "25000000")
        self.end_headers()
        self.wfile.write(bytes(25_000_000))

    def log_message(self, *_: object) -> None:
        pass


def test_a_download_from_the_hub_is_told_in_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    heard: list[tuple[object, ...]] = []
    with http.server.HTTPServer(("127.0.0.1", 0), Weights) as server, ThreadPoolExecutor() as threads:
        threads.submit(server.handle_request)
        with told(lambda *how_far: heard.append(how_far)), quiet():
            http_get(f"http://127.0.0.1:{server.server_port}/model.safetensors", io.BytesIO())
    assert len(heard) > 1 and heard[-1] == (25, 25, "MB")


def test_of_two_bars_of_the_hub_for_the_same_bytes_one_counts_and_the_number_of_files_does_not() -> None:
    heard: list[tuple[object, ...]] = []
    with told(lambda *how_far: heard.append(how_far)):
        for name, unit in (("written", "B"), ("written.transfer", "B"), ("files", "it")):
            with _get_progress_bar_context(
                desc="model", log_level=logging.ERROR, total=9 * MB, name=name, unit=unit
            ) as bar:
                bar.update(3 * MB)
    assert heard == [(3, 9, "MB")]


def test_the_unit_is_shown_and_forgotten(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    listener = TerminalListener()
    listener.phase("Loading the model")
    for done in range(1, 30):
        clock[0] += 1
        listener.progress(done, 77, "MB")
    assert "  7 of 77 MB, 1 min 10 s left" in capsys.readouterr().err
    (task,) = listener._progress.tasks
    assert CountColumn().render(task).plain == "29/77 MB"
    listener.phase("Tokenising")
    listener.progress(5, 77)
    assert CountColumn().render(task).plain == "5/77"
