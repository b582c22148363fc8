"""What is shown while a run goes on, where standard error is a file."""

import math

import pytest

from lorate.cli.progress import TerminalListener


def record(step: int) -> dict[str, float | None]:
    return {"step": step, "loss": None if step == 2 else 1.25, "eta": 1e-5, "stacked_norm": 3.0}


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
