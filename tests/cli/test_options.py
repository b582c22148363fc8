"""The options of ``lorate train`` are those of ``TrainConfig``: defaults and help are written once."""

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from lorate.cli.options import typed, with_options
from lorate.cli.train import train
from lorate.training import TrainConfig
from lorate.training.options import option


@dataclass(frozen=True)
class Other(TrainConfig):
    rank: int = option("Adapter", 13, "Another default.")
    kind: Literal["a", "b"] = option("Adapter", "b", "Of words.")
    wide: bool = option("Adapter", False, "A switch.")


def run(*words: str) -> tuple[dict[str, Any], str]:
    found: dict[str, Any] = {}
    app = typer.Typer()

    def command(context: typer.Context, extra: Annotated[int, typer.Option(help="Its own.")] = 1) -> None:
        """Say something."""
        found.update(typed(Other, context), extra=extra, rank_is=context.params["rank"])

    app.command()(with_options(Other, command))
    result = CliRunner().invoke(app, words)
    return found, result.output


def test_the_command_line_follows_the_fields() -> None:
    found, _ = run()
    assert found == {"extra": 1, "rank_is": 13}
    found, _ = run("--rank", "3", "--kind", "a", "--wide", "--targets", "q, v,", "--alpha", "law", "--extra", "2")
    assert found == {
        "rank": 3, "kind": "a", "wide": True, "targets": ["q", "v"], "alpha": "law", "extra": 2, "rank_is": 3
    }  # fmt: skip
    shown = " ".join(run("--help")[1].split())
    assert "Another default." in shown and "[default: 13]" in shown and "a|b" in shown and "Its own." in shown


def test_every_option_is_on_the_command_line_with_its_default() -> None:
    parameters = inspect.signature(train).parameters
    for field in dataclasses.fields(TrainConfig):
        assert parameters[field.name].default == field.default, field.name


def test_a_number_that_is_none_is_refused() -> None:
    assert "neither a number nor law" in " ".join(run("--alpha", "much")[1].split())


def test_the_docstring_explains_every_option() -> None:
    for field in dataclasses.fields(TrainConfig):
        assert f"    {field.name}: {field.metadata['help']}" in str(TrainConfig.__doc__)
    assert pytest.approx(TrainConfig().rank) == TrainConfig.rank
