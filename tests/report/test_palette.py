"""The claims that the palette makes about itself, measured."""

import itertools

import numpy as np
import pytest

from lorate.report import palette

# Linear-RGB matrices of full deuteranopia and protanopia: Machado, Oliveira & Fernandes (2009), table 1.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
PAPERS = [(palette.LIGHT, palette.LIGHT_PAPER), (palette.DARK, palette.DARK_PAPER)]


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(colour: str, paper: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted([linear(colour) @ weights, linear(paper) @ weights])
    return float((high + 0.05) / (low + 0.05))


def oklab(rgb: np.ndarray) -> np.ndarray:
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return lab @ np.cbrt(cones @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize(("colours", "paper"), PAPERS, ids=["light", "dark"])
def test_every_colour_stands_out_from_its_paper(colours, paper):
    for rule, colour in [*colours.items(), ("other", palette.OTHER)]:
        assert contrast(colour, paper) >= 3, rule


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("colours", "paper"), PAPERS, ids=["light", "dark"])
def test_all_pairs_stay_apart(colours, paper, vision):
    seen = {rule: oklab(VISION[vision] @ linear(colour)) for rule, colour in colours.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 0.04, (one, other)


def test_both_papers_know_the_same_rules():
    assert list(palette.LIGHT) == list(palette.DARK)
    assert {"constant", "theory", "adaptive", "adaptive-loss", "normalized"} <= set(palette.LIGHT)


def test_runs_of_one_rule_differ_in_line_style():
    styles = palette.line_styles(["auto", "auto", "theory", "auto"])
    assert len({str(styles[i]) for i in (0, 1, 3)}) == 3
    assert styles[2] == "solid"


def test_unknown_rules_share_a_colour_and_so_differ_in_line_style():
    assert palette.rule_colour("mine") == palette.rule_colour("yours") == palette.OTHER
    one, other = palette.line_styles(["mine", "yours"])
    assert one != other
