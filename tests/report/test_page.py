import re
from html.parser import HTMLParser

import pytest

from lorate.errors import LorateError
from lorate.jsonl import JsonlWriter
from lorate.runs import RunDirectory
from report.synthetic import run_info, write_hostile_run, write_run, write_troubled_run

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from lorate.report import write_report

VOID = {"meta", "link", "br", "img", "path", "use", "rect", "image"}


class Page(HTMLParser):
    """Elements, their attributes and the text of a page; fails on tags that do not match."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return Page(write_report([write_run(tmp_path_factory.mktemp("runs") / "smol").path]))


def test_the_page_tells_what_was_run_and_what_came_out(page):
    for words in (
        "fell by 8.1% (2.000 to 1.838)", "No alarms", "SmolLM2-135M-Instruct", "HumanEval solutions", "adaptive-loss",
        "60 layers, rank 8", "(Σ s‖V‖² + √Loss)", "3 min 12 s", "has_close_elements", "abs(first - second) < threshold",
        "lorate train --rule adaptive-loss", "5.1.0", "layers.29.self_attn.v_proj", "q_proj",
    ):  # fmt: skip
        assert words in page.text, words


def test_the_page_is_self_contained(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    without_pictures = re.sub(r"data:image/png;base64,[\w+/=\s]+", "", page.source)
    outside = set(re.findall(r"(?:https?:)?//[\w.]+", without_pictures)) - {"http://www.w3.org"}
    assert not outside
    assert "@import" not in page.source


def test_the_page_can_be_used_without_eyes_and_mouse(page):
    figures = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(figures) == 8
    assert all(len(svg["aria-label"]) > 40 for svg in figures)
    assert any("Held-out loss: 2.000 at step 0" in svg["aria-label"] for svg in figures)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert {"class": "skip", "href": "#main"} in page.all("a")
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in page.elements:
        assert attributes.get("aria-labelledby", identifiers[0]) in identifiers


def test_alarms_stand_in_a_table_with_their_remedy(tmp_path):
    page = Page(write_report([write_troubled_run(tmp_path / "run", layers=False).path]))
    assert "25–40 16 times diverging" in page.text
    assert "Lower --lr, for example to a third" in page.text
    assert any(
        attributes.get("role") == "region" and attributes.get("tabindex") == "0" for attributes in page.all("div")
    )
    assert any("Alarms at steps 20, 21" in svg.get("aria-label", "") for svg in page.all("svg"))


def test_several_runs_stand_side_by_side(tmp_path):
    runs = [
        write_run(tmp_path / "a", layers=False),
        write_run(tmp_path / "b" / "a", "theory", layers=False),
        write_troubled_run(tmp_path / "c", layers=False),
    ]
    output = write_report([run.path for run in runs] + [runs[0].path], tmp_path / "out" / "compare.html")
    page = Page(output)
    assert "3 runs compared" in page.text
    assert "2.000 → 5.310" in page.text
    assert "b/a (theory)" in page.text
    assert len([attributes for attributes in page.all("details") if attributes.get("class") == "run"]) == 3


def test_hostile_words_are_shown_as_words(tmp_path):
    run = write_hostile_run(tmp_path)
    other = write_run(tmp_path / "other", layers=False)
    for output in (write_report([run.path]), write_report([run.path, other.path], tmp_path / "both.html")):
        page = Page(output)
        assert len(page.all("script")) == 1
        assert page.all("img") == []
        assert "49" not in re.findall(r"alert\(2\)>(\d+)", page.text)
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize(
    ("status", "records"), [("running", 0), ("failed", 0), ("interrupted", 0), ("stopped", 0), ("failed", 1)]
)
def test_what_is_known_of_an_unfinished_run_is_shown(tmp_path, status, records):
    run = RunDirectory.create(tmp_path / "run")
    run.write_run(run_info(status=status, result=None))
    with JsonlWriter(run.metrics) as metrics:
        for step in range(1, records + 1):
            metrics.write({"step": step, "loss": None, "skipped": "not finite", "alarms": None})
    text = Page(write_report([run.path])).text
    assert status in text
    assert "SmolLM2-135M-Instruct" in text
    assert "Norms of the layers were not recorded" in text
    assert ("nothing to draw" in text) == (records == 0)


def test_a_bare_run_is_a_page(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.write_run(
        {"lorate": "0.1.0", "model": 3, "data": None, "config": [], "rule": "x", "result": "y", "versions": 0}
    )
    assert "No step has been recorded." in Page(write_report([run.path])).text


def test_damaged_files_are_named(tmp_path):
    run = write_run(tmp_path / "run", layers=False)
    run.samples.write_text("{")
    with run.metrics.open("ab") as file:
        file.write(b'garbage\n{"step": 41, "lo')
    text = Page(write_report([run.path])).text
    assert "metrics.jsonl, line 41: the line is not JSON" in text
    assert "metrics.jsonl, line 42: the last line is incomplete" in text
    assert "samples.json cannot be read" in text


def test_thinning_out_is_said_in_the_caption(tmp_path):
    run = write_run(tmp_path / "run", steps=2000, layers=False)
    text = Page(write_report([run.path])).text
    assert re.search(r"2,000 records, drawn as [\d,]+: of every 4 the first, the last, the lowest and highest", text)


def test_only_a_report_is_replaced(tmp_path):
    run = write_run(tmp_path / "run", steps=3, layers=False)
    first = write_report([run.path])
    assert first == run.report
    assert write_report([run.path]) == first
    other = tmp_path / "thesis.html"
    other.write_text("<html>my thesis</html>")
    with pytest.raises(LorateError, match="not a report of lorate"):
        write_report([run.path], other)
    assert other.read_text() == "<html>my thesis</html>"
    with pytest.raises(LorateError, match="is a directory"):
        write_report([run.path], tmp_path)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(LorateError, match=r"no run\.json"):
        write_report([tmp_path])
    with pytest.raises(LorateError, match="at least one"):
        write_report([])
