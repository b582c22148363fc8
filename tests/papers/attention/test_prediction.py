import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lorate_papers.attention.prediction as module
from lorate.errors import LorateError
from lorate_papers.attention import (
    NotConverged,
    Prediction,
    Pretraining,
    ReplicaInstabilityWarning,
    predict,
    solve_pretraining,
    sweep,
)
from lorate_papers.attention.finetuning import Finetuning, solve_finetuning
from lorate_papers.attention.prediction import linear_error

POINTS = 2**11


def test_first_reference_row() -> None:
    row = predict(0.1, 0.01, tokens=3, kappa0=1, kappa=1, noise=0.5).row()
    expected = {
        "Q": 2.222975, "M": 1.925325, "V": 4.355446, "tau": 0.720142, "Lambda": 0.110091, "active": 0.716540,
        "Delta_eff": 0.622326, "Delta_eff_reused": 0.072207, "Delta_eff_beta": 0.582471, "E_pretrained": 0.496434,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=2e-6)
    assert "q" not in row


MISMATCH = {
    True: ([0.9958, 0.9958, 0.9956, 0.9946, 0.9925, 0.9874, 0.9750],
           [0.5388, 0.4946, 0.4280, 0.3644, 0.4178, 0.6318, 1.1297]),
    False: ([0.9766, 0.9777, 0.9795, 0.9813, 0.9802, 0.9752, 0.9638],
            [0.6415, 0.5906, 0.5136, 0.4348, 0.4838, 0.6987, 1.1952]),
}  # fmt: skip


@pytest.mark.parametrize("reused", [True, False])
def test_error_and_overlap_disagree_on_reused_sequences(reused: bool) -> None:
    lams = (0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8)
    given = {"tokens": 2, "kappa0": 0.5, "finetune_alpha": 3, "finetune_lam": 0.5, "reused": reused, "points": 2**13}
    rows = [predict(0.2, lam, **given).row() for lam in lams]
    overlaps, errors = ([row[name] for row in rows] for name in ("overlap", "E_finetuned"))
    assert overlaps == pytest.approx(MISMATCH[reused][0], abs=2e-4)
    assert errors == pytest.approx(MISMATCH[reused][1], abs=1e-3)
    assert lams[int(np.argmin(errors))] == 0.1
    assert (lams[int(np.argmax(overlaps))] < 0.05) == reused


@pytest.mark.parametrize(
    ("options", "q", "m", "overlap", "error"),
    [  # theory columns of the full-pipeline table
        ({"lam": 0.01, "finetune_lam": 0.05}, 1.013, 0.996, 0.9893, 0.554),
        ({"lam": 0.01, "finetune_lam": 1.0}, 0.859, 0.916, 0.9882, 0.577),
        ({"lam": 0.1, "finetune_lam": 0.5}, 0.940, 0.958, 0.9879, 0.659),
        ({"lam": 0.01, "finetune_lam": 0.5, "reused": True}, 0.919, 0.957, 0.9983, 0.513),
        ({"lam": 0.1, "finetune_lam": 0.5, "reused": True}, 0.923, 0.957, 0.9963, 0.620),
    ],
)
def test_whole_pipeline(options: dict[str, Any], q: float, m: float, overlap: float, error: float) -> None:
    row = predict(0.1, finetune_alpha=3, points=POINTS, **options).row()
    assert (row["q"], row["m"], row["E_finetuned"]) == pytest.approx((q, m, error), abs=2e-3)
    assert row["overlap"] == pytest.approx(overlap, abs=3e-4)
    assert row["stable"] is True


@pytest.mark.parametrize(
    ("options", "noise"),
    [
        ({}, 1.498),
        ({"beta": "optimal"}, 1.372),
        ({"fraction": 0.05}, 1.396),
        ({"fraction": 0.3}, 1.426),
    ],
)
def test_effective_noise_of_each_prescription(options: dict[str, Any], noise: float) -> None:
    arguments: dict[str, Any] = {"noise": 0.1, "finetune_alpha": 1.5, "finetune_lam": 0.2, "points": POINTS}
    prediction = predict(0.05, 0.3, **arguments, **options)
    assert prediction.effective_noise == pytest.approx(noise, abs=1e-3)
    assert prediction.beta == (pytest.approx(1.76, abs=0.01) if options.get("beta") else 1)


@pytest.mark.parametrize(
    ("options", "noise"),
    [
        ({"beta": 1.0}, 0.1163),
        ({"beta": 1.5}, 0.4220),
        ({"beta": 1.0, "fresh_noise": True}, 0.3966),
        ({"beta": 1.5, "fresh_noise": True}, 0.8424),
    ],
)
def test_effective_noise_of_reused_sequences(options: dict[str, Any], noise: float) -> None:
    prediction = predict(0.1, 0.05, finetune_alpha=3, finetune_lam=0.5, reused=True, points=POINTS, **options)
    assert prediction.effective_noise is not None
    assert prediction.effective_noise == pytest.approx(noise, rel=0.03)


def test_vanished_adapter() -> None:
    prediction = predict(0.1, 0.01, finetune_alpha=3, finetune_lam=13, points=POINTS)
    assert math.isnan(float(prediction.row()["overlap"]))
    assert prediction.error == pytest.approx(4 / 3 * (solve_pretraining(Pretraining(0.1, 0.01)).mismatch + 1), abs=1e-6)


def test_recalibration_lowers_the_error_of_both_stages() -> None:
    plain, best = (predict(0.1, 0.01, beta=beta) for beta in (1.0, "optimal"))  # type: ignore[arg-type]
    assert best.error < plain.error == pytest.approx(0.496434, abs=2e-6)


def test_instability_is_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    unstable = replace(solve_finetuning(Finetuning(3, 0.5, 0.6), 2**8), replicon=1.5)
    monkeypatch.setattr(module, "solve_finetuning", lambda *_: unstable)
    with pytest.warns(ReplicaInstabilityWarning, match=r"stability 1\.5 is not below 1"):
        prediction = predict(0.1, 0.01, finetune_alpha=3, finetune_lam=0.5)
    assert not prediction.stable and prediction.row()["stable"] is False


def test_softmax_prediction() -> None:
    row = predict(
        0.3, 0.03, tokens=2, attention="softmax", finetune_alpha=6, finetune_lam=0.1, reused=True, points=2**9
    ).row()
    assert (row["q"], row["m"], row["E_finetuned"]) == pytest.approx((0.695, 0.826, 0.135), rel=0.06)
    assert row["overlap"] == pytest.approx(0.990, abs=0.003)
    assert "Delta_eff" not in row


def test_error_terms_by_drawing_fields() -> None:
    """The (q - q0)^2 / T term, there only where the means are not subtracted."""
    order = solve_pretraining(Pretraining(0.1, 0.1))
    tuned = replace(solve_finetuning(Finetuning(3, 5, 0.7), 2**10), q=0.5, m=0.4)
    assert linear_error(order, tuned, centred=False) - linear_error(order, tuned) == pytest.approx(0.25 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "cubic"}, "attention must be one of linear, softmax; it is 'cubic'"),
        ({"finetune_alpha": 3.0}, "belong together"),
        ({"finetune_lam": 3.0}, "belong together"),
        ({"fresh_noise": True}, "fresh_noise"),
        ({"beta": "best"}, 'beta must be a number, or "optimal"'),
        ({"beta": "optimal", "attention": "softmax"}, "with linear attention"),
        ({"beta": -1.0}, "beta must be at least 0"),
        ({"beta": math.nan}, "beta must be a finite number; it is nan"),
        ({"finetune_alpha": 0.0, "finetune_lam": 0.5}, "finetune_alpha must be above 0"),
        ({"finetune_alpha": 3.0, "finetune_lam": -0.5}, "finetune_lam must be at least 0"),
        ({"fraction": 5.0}, "fraction must be at most 1"),
        ({"tokens": 3.0}, r"tokens must be a whole number of at least 2; it is 3\.0"),
        ({"attention": "softmax", "points": 9}, "points must be a power of two, at least 4; it is 9"),
        ({"attention": "softmax", "points": 2}, "points must be a power of two, at least 4; it is 2"),
        ({"fraction": 0.1, "reused": True}, "fraction chooses among fresh sequences"),
        ({"fraction": 0.1, "beta": 1.5}, "active selection"),
        ({"attention": "softmax", "beta": 1.5}, "linear attention only"),
        ({"tokens": 1}, "tokens must be"),
        ({"noise": -1.0}, "noise must be"),
        ({"kappa": 0.1}, "kappa must be at least the fraction"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LorateError, match=message):
        predict(0.1, 0.01, **options)


def test_sweep_keeps_the_order_and_carries_failures() -> None:
    failing = {"alpha": 0.05, "lam": 1e-3, "noise": 0, "finetune_alpha": 0.1, "finetune_lam": 1e-6, "points": 2**6}
    seen: list[tuple[int, int]] = []
    points = [{"alpha": 0.1, "lam": 0.01}, failing, {"alpha": 0.1, "lam": 0.1}]
    first, second, third = sweep(points, progress=lambda done, total: seen.append((done, total)))
    assert isinstance(first, Prediction) and first.error == pytest.approx(0.496434, abs=2e-6)
    assert isinstance(second, NotConverged)
    assert isinstance(third, Prediction) and third.error == pytest.approx(0.594066, abs=2e-6)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_exception_survives_a_process_border() -> None:
    error = NotConverged("no fixed point", {"q": 0.5}, 0.1)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.state, copy.residual) == (str(error), {"q": 0.5}, 0.1)
