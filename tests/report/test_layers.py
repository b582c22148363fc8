import numpy as np
import pytest

from lorate.report.captions import describe_layers, layer_caption, rank_advice
from lorate.report.heatmap import layer_figure, layer_norms
from lorate.report.layer_names import arrange


def test_every_layer_is_drawn_exactly_once_and_told_apart():
    stages = [
        f"m.encoder.stages.{s}.layers.{b}.layer.{c}.convolution" for s in range(4) for b in range(2) for c in (0, 1)
    ]
    names = [*stages, "m.embedder.convolution"]
    panels = arrange(names)
    assert sorted(i for panel in panels for i in panel.indices) == list(range(len(names)))
    assert panels[0].rows[:3] == ["0.0.0", "0.0.1", "0.1.0"]
    assert panels[1].title == "other"
    for panel in panels:
        assert len(set(panel.rows)) == len(panel.rows) == len(panel.indices)


def test_modules_that_end_alike_keep_what_tells_them_apart():
    names = [f"m.{i}.{part}.attn.q" for i in range(3) for part in ("text", "image")]
    assert [panel.title for panel in arrange(names)] == ["text.attn.q", "image.attn.q"]


@pytest.mark.parametrize("names", [[], ["x"], ["a.0", "a.1"], ["same", "same"], [""], ["0.1.2"] * 9])
def test_odd_names_do_no_harm(names):
    assert sorted(i for panel in arrange(names) for i in panel.indices) == list(range(len(names)))


def records(steps: int, layers: int = 3):
    yield {"names": [f"l.{i}.q" for i in range(layers)], "scaling": [1.0] * layers}
    for step in range(steps):
        yield {"step": step, "a_norm": [3.0] * layers, "b_norm": [4.0] * layers, "grad_norm": [step, None, 0.0]}


def test_norms_are_read_and_stacked():
    norms = layer_norms(records(4))
    assert norms.steps == [0, 1, 2, 3]
    assert norms.quantity("stacked_norm") == pytest.approx(np.full((4, 3), 5.0))
    assert norms.quantity("grad_norm")[2, 0] == 2
    assert np.isnan(norms.quantity("grad_norm")[2, 1])


def test_many_records_become_columns_of_maxima():
    norms = layer_norms(records(1000), columns=20)
    assert len(norms.steps) <= 41
    assert norms.bucket * len(norms.steps) >= 1000
    assert norms.quantity("grad_norm")[:, 0].max() == 999
    assert norms.quantity("grad_norm")[0, 0] == norms.bucket - 1
    assert list(norms.steps) == [i * norms.bucket for i in range(len(norms.steps))]


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("key", ["a_norm", "stacked_norm", "b_norm", "grad_norm"])
def test_few_records_can_be_drawn(steps, key):
    pytest.importorskip("matplotlib")
    norms = layer_norms(records(steps))
    mesh = layer_figure(norms, key).axes[0].collections[0]
    assert mesh.get_array().size == steps * 3


def test_records_that_do_not_fit_are_passed_over():
    broken = [{"step": 1, "a_norm": [1.0]}, {"names": ["x", "y"]}, {"step": 2, "a_norm": [1.0]}, {"step": "3"}]
    good = {"step": 4, "a_norm": [1.0, 2.0], "b_norm": "?", "grad_norm": None}
    norms = layer_norms([*broken, good])
    assert norms.steps == [4]
    assert norms.quantity("a_norm").tolist() == [[1.0, 2.0]]


def spread(used, rank=8):
    """Records whose last has no window, as at the end of a run."""
    names = [f"l.{i}.q" for i in range(len(used))]
    norms = {key: [1.0] * len(used) for key in ("a_norm", "b_norm", "grad_norm")}
    yield {"names": names, "scaling": [1.0] * len(used)}
    yield {"step": 1, **norms}
    yield {"step": 10, **norms, "effective_rank": used, "rank": [rank] * len(used)}
    yield {"step": 12, **norms}


@pytest.mark.parametrize(
    ("used", "advice"),
    [
        ([1.0, 1.9, 8.0], "try half of it"),
        ([1.0, 2.1, 8.0], "Nothing suggests another rank"),
        ([1.0, 5.9, 8.0], "Nothing suggests another rank"),
        ([1.0, 6.1, 8.0], "try twice the rank"),
    ],
)
def test_the_median_layer_decides_what_is_said_about_the_rank(used, advice):
    norms = layer_norms(spread(used))
    words = layer_caption(norms, "effective_rank")
    assert f"At step 10 it is {used[1]} of the rank's 8 in the median layer, and from 1.0 to 8.0 in all." in words
    assert advice in words
    assert "at step 10: largest 8.000 (l.2.q), smallest 1.000 (l.0.q)" in describe_layers(norms, "effective_rank")


@pytest.mark.parametrize("used", [[None, None], ["x", {}], 3, []])
def test_nothing_is_said_where_no_spread_was_recorded(used):
    found = [*spread([2.0, 2.0])]
    found[2]["effective_rank"] = used
    assert rank_advice(layer_norms(found)) == "" == rank_advice(layer_norms(records(4)))


@pytest.mark.parametrize("rank", [0, None, -1])
def test_a_damaged_rank_decides_nothing(rank):
    assert rank_advice(layer_norms(spread([2.0, 2.0], rank))) == ""
