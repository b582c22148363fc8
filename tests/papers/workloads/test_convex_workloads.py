import itertools

import pytest
import torch

import lorate
from lorate.errors import LorateError
from lorate.smoothness import hessian_norm
from lorate_papers.workloads import WORKLOADS, AdapterSpec, load_workload, logistic, matrix


def test_an_unknown_workload_is_refused_with_the_known_ones():
    with pytest.raises(LorateError, match="no workload 'nothing'; there are: logistic, embeddings, matrix, small-lm"):
        load_workload("nothing")
    assert {"logistic", "matrix", "small-lm", "resnet", "smollm2"} <= WORKLOADS.keys()


@pytest.mark.parametrize("name", ["logistic", "matrix"])
@pytest.mark.parametrize("given", [{"data": "x"}, {"model": "x"}])
def test_they_take_no_other_data_or_model(name, given):
    with pytest.raises(LorateError, match=f"{name} has data and model of its own"):
        load_workload(name, quick=True, **given)


def test_logistic_regression_starts_at_zero_and_all_images_can_be_used():
    whole = logistic.load(held_out=0)
    assert len(whole.train["labels"]) == 1797 and whole.held_out is whole.train
    part = load_workload("logistic")
    assert len(part.train["labels"]) + len(part.held_out["labels"]) == 1797 and len(part.held_out["labels"]) == 359
    assert part.train["inputs"].min() == 0 and part.train["inputs"].max() == 1
    assert part.validation_loss(part.model(AdapterSpec(4, 4), 0)) == pytest.approx(torch.log(torch.tensor(10.0)))
    with pytest.raises(LorateError, match="part held out"):
        logistic.load(held_out=1.0)


def test_no_image_of_logistic_is_in_both_parts():
    part = load_workload("logistic")
    seen = {tuple(row) for row in part.train["inputs"].tolist()}
    assert not any(tuple(row) in seen for row in part.held_out["inputs"].tolist())


def test_the_smoothness_of_least_squares_is_the_curvature():
    workload = matrix.load(quick=True)
    model = workload.model(None, 0)
    found = hessian_norm(lambda: workload.loss(model, workload.train), [model.linear.weight])
    assert found.value == pytest.approx(workload.smoothness, rel=1e-4)


def test_the_smoothness_of_logistic_regression_bounds_the_curvature():
    workload = logistic.load(quick=True)
    model = workload.model(None, 0)
    found = hessian_norm(lambda: workload.loss(model, workload.train), [model.linear.weight])
    assert found.value == pytest.approx(0.2 * workload.smoothness, rel=1e-3)  # at W = 0: 1/10 instead of 1/2


def test_the_matrix_to_learn_has_the_rank_it_says():
    workload = matrix.load()
    x, y = workload.train["inputs"], workload.train["outputs"]
    solution = torch.linalg.lstsq(x, y).solution.T
    values = torch.linalg.svdvals(solution - workload.template.linear.weight)
    assert values[matrix.RANK - 1] > 20 * values[matrix.RANK]
    residual = 0.5 * (x @ solution.T - y).square().sum(-1).mean()
    degrees = (len(x) - x.shape[1]) / len(x)
    assert float(residual) == pytest.approx(0.5 * y.shape[1] * matrix.NOISE**2 * degrees, rel=0.05)


def test_theory_never_raises_the_full_batch_loss():
    workload = matrix.load(quick=True)
    model = workload.model(AdapterSpec(4, 4), 0)
    optimizer = lorate.create_optimizer(model, rule="theory", smoothness=workload.smoothness)
    losses = []
    for batch in itertools.islice(workload.batches(None, 0), 30):
        optimizer.zero_grad()
        loss = workload.loss(model, batch)
        loss.backward()
        optimizer.step(loss=loss)
        losses.append(float(loss.detach()))
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.9 * losses[0]
