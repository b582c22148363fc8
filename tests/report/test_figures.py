from xml.etree import ElementTree

import numpy as np
import pytest

from lorate.report import palette
from report.synthetic import step_record

matplotlib = pytest.importorskip("matplotlib")

from lorate.report.figures import eta_figure, gradient_figure, loss_figure, norm_figure, save_figure  # noqa: E402
from lorate.report.svg import inline_svg  # noqa: E402
from lorate.report.track import track  # noqa: E402

FIGURES = [loss_figure, eta_figure, norm_figure, gradient_figure]
HOSTILE = "<script>alert(1)</script>&\"' $\\frac{$ \x00\ud800"


def run(label="run", rule="theory", steps=30, **changes):
    rng = np.random.default_rng(0)
    return track(label, rule, [step_record(i, rng, **changes) for i in range(1, steps + 1)])


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_hardly_any_records(draw, steps):
    text = inline_svg(draw([run(steps=steps)]), "f", "words")
    assert ("no values recorded" in text) == (steps == 0)


@pytest.mark.parametrize("draw", FIGURES)
def test_nulls_zeros_and_huge_values(draw):
    empty = dict.fromkeys(["loss", "eta", "stacked_norm", "a_norm", "b_norm", "grad_norm"])
    inline_svg(draw([run(**empty), run(**dict.fromkeys(empty, 0.0)), run(**dict.fromkeys(empty, 1e300))]), "f", "words")


def test_curves_have_the_colour_of_their_rule_and_styles_tell_runs_apart():
    axes = eta_figure([run("one"), run("two"), run("three", "auto")]).axes[0]
    one, two, three = axes.get_lines()[:3]
    assert one.get_color() == two.get_color() == palette.LIGHT["theory"]
    assert one.get_linestyle() != two.get_linestyle()
    assert three.get_color() == palette.LIGHT["auto"]
    assert axes.get_yscale() == "log"


def test_the_drawn_values_are_the_recorded_ones():
    line = gradient_figure([run()]).axes[0].get_lines()[0]
    rng = np.random.default_rng(0)
    assert line.get_ydata() == pytest.approx([step_record(i, rng)["grad_norm"] for i in range(1, 31)])


def test_alarms_and_skipped_steps_are_marked():
    records = [{"step": i, "loss": 2.0, "alarms": [{"kind": "stalled"}] if i == 7 else []} for i in range(20)]
    records[12] |= {"loss": None, "skipped": "not finite"}
    lines = {line.get_label(): line for line in loss_figure([track("run", "theory", records)]).axes[0].get_lines()}
    assert list(lines["alarm"].get_xdata()) == [7]
    assert list(lines["skipped step"].get_xdata()) == [12]


def test_inline_svg_takes_the_colours_of_the_page():
    text = inline_svg(loss_figure([run("a"), run("b", "constant")]), "f", 'say "words"')
    root = ElementTree.fromstring(text)
    assert "var(--rule-theory)" in text
    assert "var(--rule-constant)" in text
    assert "currentColor" in text
    assert not [colour for colour in (*palette.LIGHT.values(), "#000000", "#ffffff") if colour in text]
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'say "words"'
    assert "width" not in root.attrib
    assert root.get("viewBox")
    assert "DejaVu" not in text


def test_figures_on_one_page_share_no_identifier():
    def identifiers(prefix):
        root = ElementTree.fromstring(inline_svg(loss_figure([run()]), prefix, ""))
        return {element.get("id") for element in root.iter()} - {None}

    assert identifiers("a")
    assert not identifiers("a") & identifiers("b")


def test_hostile_labels_stay_text():
    root = ElementTree.fromstring(inline_svg(eta_figure([run(HOSTILE), run("b")]), "f", HOSTILE[:-2]))
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert any("<script>alert(1)</script>" in (element.text or "") for element in root.iter())


def test_save_figure_writes_both_kinds_and_the_same_bytes_twice(tmp_path):
    first = save_figure(loss_figure([run()]), tmp_path / "figures" / "loss.rank8")
    assert [path.name for path in first] == ["loss.rank8.svg", "loss.rank8.png"]
    assert first[1].read_bytes().startswith(b"\x89PNG")
    again = save_figure(loss_figure([run()]), tmp_path / "again")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_drawing_leaves_the_users_settings_alone():
    before = dict(matplotlib.rcParams)
    save = inline_svg(loss_figure([run()]), "f", "")
    assert save
    assert dict(matplotlib.rcParams) == before
