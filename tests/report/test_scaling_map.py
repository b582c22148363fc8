"""The heat map of a sweep over rank and alpha."""

import pytest

from lorate.scaling.power_law import fit_scaling

pytest.importorskip("matplotlib")

from lorate.report.scaling_map import scaling_figure
from lorate.report.style import INK

LOSSES = {rank: {alpha: [abs(alpha - 8 * rank)] for alpha in (4.0, 8.0, 16.0, 32.0, 64.0)} for rank in (1, 2, 4)}


def test_the_legend_is_drawn_in_ink_which_has_a_form_for_dark_pages() -> None:
    figure = scaling_figure(LOSSES, fit_scaling(LOSSES))
    assert [line.get_color() for line in figure.legends[0].get_lines()] == [INK, INK]
    assert INK not in [line.get_color() for line in figure.axes[0].get_lines()]  # there it lies on the cells' colours
