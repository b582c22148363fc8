"""Two processes with half of the batch each take the steps of one process with the whole batch."""

from collections.abc import Callable
from typing import Any

import pytest
import rank_runs
import torch
from rank_runs import FAULTY_RULES, RESUMED_RULES, RULES, Run, trajectory

import lorate
from lorate.errors import LorateError
from peft_models import linear_model

DOUBLE, SINGLE = torch.float64, torch.float32
ROUNDING = 1e-10
"""Of twenty steps in double precision, as a fraction of the largest weight."""
SINGLE_FACTOR = 5
"""Times what single precision costs one process, which is 1e-7 with most rules and 4e-5 under ``auto``."""


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Any]]:
    """What both ranks report of a job, which is run once."""
    done: dict[str, list[Any] | Exception] = {}

    def run(job: str) -> list[Any]:
        if job not in done:
            try:
                done[job] = rank_runs.on_two_ranks(tmp_path_factory.mktemp(job), getattr(rank_runs, job))
            except Exception as error:  # a deadlock takes a minute: not again in every test
                done[job] = error
        found = done[job]
        if isinstance(found, Exception):
            raise found
        return found

    return run


def slow(*values: Any) -> Any:
    return pytest.param("thorough", *values, marks=pytest.mark.slow)


def test_every_rule_is_tried() -> None:
    assert {rule for rule, _ in RULES.values()} == set(lorate.RULES)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("job", "wrap", "dtype"),
    [
        ("quick", "ddp", DOUBLE),
        slow("fsdp", DOUBLE),
        slow("fsdp after", DOUBLE),
        slow("ddp", SINGLE),
        slow("fsdp", SINGLE),
    ],
)
def test_half_of_the_batch_each_is_the_whole_batch(
    on_two_ranks: Any, job: str, wrap: str, dtype: torch.dtype, rule: str
) -> None:
    first, second = (seen["trajectories"][wrap, dtype, rule] for seen in on_two_ranks(job))
    alone = trajectory(Run(rule, None, dtype))
    assert torch.equal(first["weights"], second["weights"])
    assert first["steps"] == second["steps"]
    assert all(skipped is None for _, skipped, *_ in first["steps"])
    size = alone["weights"].abs().max()
    tolerance = ROUNDING * size
    if dtype == SINGLE:
        tolerance = SINGLE_FACTOR * (alone["weights"] - trajectory(Run(rule, None))["weights"]).abs().max()
    assert (first["weights"] - alone["weights"]).abs().max() < tolerance < 1e-3 * size
    assert (alone["weights"][-1] - alone["weights"][0]).abs().max() > 100 * tolerance


@pytest.mark.parametrize("rule", FAULTY_RULES)
@pytest.mark.parametrize("fault", ["nan", "empty"])
@pytest.mark.parametrize(("job", "wrap"), [("quick", "ddp"), slow("fsdp")])
def test_a_bad_micro_batch_on_one_rank_skips_the_step_on_all(
    on_two_ranks: Any, job: str, wrap: str, fault: str, rule: str
) -> None:
    first, second = (seen["faults"][wrap, fault, rule] for seen in on_two_ranks(job))
    assert [skipped is not None for skipped in first["skipped"]] == [False, False, True, False, False]
    assert first["skipped"] == second["skipped"]
    weights = first["weights"]
    assert torch.equal(weights, second["weights"])
    assert torch.equal(weights[2], weights[1])
    assert weights.isfinite().all()
    assert not torch.equal(weights[3], weights[2])


@pytest.mark.parametrize(("job", "wrap"), [("quick", "ddp"), slow("fsdp")])
def test_a_rank_that_tells_no_loss_does_not_shift_the_mean(on_two_ranks: Any, job: str, wrap: str) -> None:
    first, second = (seen["silent"] for seen in on_two_ranks(job))
    run = Run("adaptive-loss", None)
    run.tokens, run.target = (x.chunk(rank_runs.WORLD)[0] for x in (run.tokens, run.target))
    assert first == second == pytest.approx(run.loss().item(), rel=1e-12)


def test_one_rank_writes_the_records_and_all_hear_the_alarms(on_two_ranks: Any) -> None:
    first, second = (seen["monitored"] for seen in on_two_ranks("quick"))
    assert first["counts"] == second["counts"] == (9, 60)
    assert [(record["step"], record["samples"]) for record in first["records"]] == [(1, 3), (2, 6), (3, 9)]
    assert first["alarms"] == second["alarms"] == [[], ["non-finite"], []]
    assert first["damping"] == second["damping"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("rule", RESUMED_RULES)
def test_a_sharded_optimizer_goes_on_from_its_state(on_two_ranks: Any, rule: str) -> None:
    for seen in on_two_ranks("thorough"):
        paths = seen["interrupted"][rule]
        assert torch.equal(paths["resumed"], paths["whole"])


@pytest.mark.slow
@pytest.mark.parametrize("wrap", ["ddp", "fsdp"])
def test_auto_goes_on_from_a_distributed_checkpoint_whose_making_moves_nothing(on_two_ranks: Any, wrap: str) -> None:
    for seen in on_two_ranks("thorough"):
        found = seen["checkpointed"][wrap]
        assert found["unmoved"] and torch.equal(found["resumed"], found["whole"])


@pytest.mark.slow
def test_a_trainer_on_two_ranks_counts_each_loss_once_and_resumes(on_two_ranks: Any) -> None:
    first, second = on_two_ranks("in_a_trainer")
    assert first["processes"] == second["processes"] == 2
    assert torch.equal(first["whole"], second["whole"]) and torch.equal(first["whole"], first["parts"])
    assert [record["step"] for record in first["records"]] == [1, 2, 3, 4, 5, 6]
    assert [record["loss"] for record in first["records"]] == pytest.approx(first["logged"], abs=1e-4)
    assert [record["samples"] for record in first["records"]] == [8 * step for step in range(1, 7)]
    assert sum(record["average_slope"] is not None for record in first["records"]) >= 3


@pytest.mark.slow
def test_a_sharded_model_sees_the_average_and_then_the_last_adapters(on_two_ranks: Any) -> None:
    first, second = (torch.tensor(seen["average"]) for seen in on_two_ranks("thorough"))
    last, average, again = first + second
    assert again == last != average


def test_zero_3_is_refused() -> None:
    """Its partitioned parameters carry the attribute ``ds_id``."""
    model = linear_model()
    next(model.parameters()).ds_id = 0
    with pytest.raises(LorateError, match=r"ZeRO-3 has partitioned .* train data-parallel"):
        lorate.create_optimizer(model)


def test_merged_parameters_are_refused() -> None:
    """ZeRO puts one flat partition into each group."""
    optimizer = lorate.create_optimizer(linear_model(), "constant", lr=0.1)
    (group,) = optimizer.param_groups
    group["params"] = [torch.cat([parameter.detach().flatten() for parameter in group["params"]])]
    with pytest.raises(LorateError, match="holds 1 tensors instead of its 4 parameters"):
        optimizer.step()


def test_the_first_fsdp_is_refused() -> None:
    class FullyShardedDataParallel(torch.nn.Sequential):
        """Stands for torch's, which needs an accelerator."""

    with pytest.raises(LorateError, match="flattens A and B"):
        lorate.create_optimizer(FullyShardedDataParallel(linear_model()))
