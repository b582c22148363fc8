"""The best constant of a rule: diverged seeds never chosen, edges told."""

from typing import Any

from lorate_papers.training.tuning import best_constant, choose, constants


def trials(*losses: float | None) -> list[dict[str, Any]]:
    return [
        {"lr": 10.0**place, "final_loss": loss, "final_validation": loss and 1 / loss}
        for place, loss in enumerate(losses, start=-1)
    ]


def test_the_least_loss_decides_and_a_diverged_run_is_never_it() -> None:
    assert best_constant(trials(3.0, 1.5, None)) == 1.0
    assert best_constant(trials(3.0, 1.5, 2.0), by="final_validation") == 0.1
    assert best_constant(trials(None, None)) == 0.1


def test_a_constant_with_which_another_seed_diverges_is_refused_and_edges_are_told() -> None:
    losses = {1.0: 4.0, 2.0: 2.0, 3.0: 1.0, 4.0: 0.5, 5.0: 9.0}
    for lost, lr, at_edge, refused in (
        (3.0, 2.0, False, [4.0, 3.0]),
        (9.0, 4.0, False, []),
        (1.0, 5.0, True, [4, 3, 2, 1]),
    ):

        def run(lr: float, seed: int = 0, lost: float = lost) -> dict[str, Any]:
            return {"lr": lr, "seed": seed, "final_loss": losses[lr], "diverged": lost <= lr <= 4 and seed == 1}

        tuning = choose(tuple(losses), (0, 1), run, run)
        assert (tuning.lr, tuning.at_edge, tuning.refused) == (lr, at_edge, refused)
        assert [one["seed"] for one in tuning.runs] == [0, 1] and len(tuning.trials) == 5


def test_grids_are_even_in_the_logarithm() -> None:
    assert constants(0.001, 10, 5) == (0.001, 0.01, 0.1, 1.0, 10.0)


def test_of_several_finalists_the_mean_over_the_seeds_decides() -> None:
    ends = {1.0: (3.0, 3.0), 2.0: (1.1, 1.1), 3.0: (1.0, 2.0), 4.0: (0.9, None)}

    def run(lr: float, seed: int = 0) -> dict[str, Any]:
        loss = ends[lr][seed]
        return {"lr": lr, "final_loss": loss, "diverged": loss is None}

    assert [choose(tuple(ends), (0, 1), run, run, finalists=count).lr for count in (1, 2, 9)] == [3.0, 2.0, 2.0]
    assert choose(tuple(ends), (0, 1), run, run, finalists=2).refused == [4.0]
    assert choose((4.0,), (0, 1), run, run, finalists=2).runs[1]["diverged"]
