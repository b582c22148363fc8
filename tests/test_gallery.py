"""The gallery of the documentation: what is committed fits together, and the script that makes it works."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import verdicts

from lorate.errors import LorateError
from lorate_papers.experiments import EXPERIMENTS, Options, load_experiment
from lorate_papers.experiments.runner import reproduce
from papers.experiments.toy import EXPERIMENT

ROOT = Path(__file__).parent.parent
MENDED_BY = "run: python docs/make_gallery.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_gallery", ROOT / "docs" / "make_gallery.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_gallery = _script()
GALLERY = make_gallery.GALLERY
COLLECTED = sorted(folder.name for folder in GALLERY.iterdir() if folder.is_dir())


def test_committed_pages_say_what_the_committed_claims_say() -> None:
    wanted = make_gallery.pages(GALLERY)
    assert {page.name for page in GALLERY.glob("*.md")} == set(wanted), MENDED_BY
    for file, text in wanted.items():
        assert (GALLERY / file).read_text(encoding="utf-8") == text, f"docs/gallery/{file} is old; {MENDED_BY}"
    configuration = (ROOT / "properdocs.yml").read_text(encoding="utf-8")
    assert make_gallery.in_navigation(configuration, GALLERY) == configuration, MENDED_BY


def test_the_papers_page_gives_the_verdicts_of_the_gallery() -> None:
    page = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert verdicts.filled(page, GALLERY) == page, MENDED_BY
    assert page.count("<!-- verdict: ") == len(verdicts.VERDICT.findall(page)) > 30


def test_a_verdict_is_the_gallerys(tmp_path: Path) -> None:
    text = "<!-- verdict: logistic: flat -->stale<!-- end -->; <!-- verdict: resnet: best --><!-- end -->"
    assert verdicts.filled(text, tmp_path).count("not run yet") == 2
    (tmp_path / "logistic").mkdir()
    claims = [{"claim": "It is flat.", "verdict": "does not hold"}, {"claim": "Steep.", "verdict": "holds"}]
    (tmp_path / "logistic" / "claims.json").write_text(json.dumps(claims))
    once = verdicts.filled(text, tmp_path)
    assert "flat -->[`logistic`](gallery/logistic.md): does not hold<!-- end -->;" in once and "stale" not in once
    assert verdicts.filled(once, tmp_path) == once
    for asked, trouble in (("logistic: round", "no claim of logistic holds"), ("logic: flat", "no experiment 'logic'")):
        with pytest.raises(LorateError, match=trouble):
            verdicts.filled(f"<!-- verdict: {asked} --><!-- end -->", tmp_path)


@pytest.mark.parametrize("name", COLLECTED)
def test_what_is_committed_comes_from_a_full_run(name: str) -> None:
    found = json.loads((GALLERY / name / "results.json").read_text(encoding="utf-8"))
    assert found["run"]["config"] == {"experiment": name, "quick": False, "seed": 0}
    assert found["run"]["status"] == "finished" and len(found["results"]) == found["run"]["result"]["runs"]
    claims = json.loads((GALLERY / name / "claims.json").read_text(encoding="utf-8"))
    page = (GALLERY / f"{name}.md").read_text(encoding="utf-8")
    for verdict in ("holds", "does not hold", "not testable here"):
        assert page.count(f"| {verdict} | ") == found["run"]["result"][verdict]
    assert len(re.findall(r"^\| [hdn]", page, re.MULTILINE)) == len(claims)
    figures = {figure["name"] + ".svg" for figure in found["figures"]}
    assert figures == {file.name for file in (GALLERY / name).glob("*.svg")}


@pytest.mark.parametrize("name", COLLECTED)
def test_every_row_says_what_differs_from_the_papers_protocol(name: str) -> None:
    claims, protocols = make_gallery._claims(GALLERY / name), load_experiment(name).protocols
    assert all(len(claim.protocol) > 20 for claim in claims)
    assert set(protocols.values()) == {claim.protocol for claim in claims}, "words that no claim has"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(EXPERIMENT, "log", str(tmp_path / "log"), raising=False)
    before = dict(EXPERIMENTS)
    EXPERIMENTS.clear()
    EXPERIMENTS.update(dict.fromkeys(("toy", "other"), "papers.experiments.toy:EXPERIMENT"))
    navigation = "nav:\n  - A: a.md\n  - B:\n      - Gallery: gallery/index.md\n  - C: c.md\n"
    (tmp_path / "properdocs.yml").write_text(navigation)
    (tmp_path / "papers.md").write_text("| 14 | <!-- verdict: toy: The sum --><!-- end --> |\n")
    yield tmp_path
    EXPERIMENTS.clear()
    EXPERIMENTS.update(before)  # in their order


def test_from_a_run_to_pages(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce("toy", toy / "runs" / "toy", jobs=1)
    make_gallery.main(toy / "runs", toy / "gallery", toy / "properdocs.yml", toy / "papers.md")
    assert "toy: collected" in capsys.readouterr().out
    assert {file.name for file in (toy / "gallery" / "toy").iterdir()} == {"claims.json", "results.json", "squares.svg"}
    page = (toy / "gallery" / "toy.md").read_text()
    assert "# Squares <of> numbers" in page and "| holds | The sum is 14. | 14 | Own &lt;numbers&gt;. |" in page
    assert (
        "![They grow.](toy/squares.svg){ width=560 }" in page and "## Squares\n" in page and "\nOf numbers.\n" in page
    )
    index = (toy / "gallery" / "index.md").read_text()
    assert "## [Squares &lt;of&gt; numbers](toy.md)\n" in index
    assert re.search(r"^`lorate reproduce toy` \([\d.]+ s\): 1 holds and 1 not testable here\.$", index, re.MULTILINE)
    assert re.search(r"^\[!\[.+\]\(toy/\w+\.svg\)\{ width=380 \}\]\(toy\.md\)$", index, re.MULTILINE)
    assert "`lorate reproduce other`: not run yet." in index and not (toy / "gallery" / "other.md").exists()
    papers = (toy / "papers.md").read_text()
    assert papers == "| 14 | <!-- verdict: toy: The sum -->[`toy`](gallery/toy.md): holds<!-- end --> |\n"
    lines = (toy / "properdocs.yml").read_text().splitlines()
    assert lines[3:5] == ["      - Gallery: gallery/index.md", '      - "Squares <of> numbers": gallery/toy.md']
    assert lines[0] == "nav:" and lines[5:] == ["  - C: c.md"]


def test_what_was_collected_stays_without_its_run(toy: Path) -> None:
    reproduce("toy", toy / "runs" / "toy", jobs=1)
    make_gallery.main(toy / "runs", toy / "gallery", toy / "properdocs.yml", toy / "papers.md")
    before = (toy / "gallery" / "toy.md").read_text()
    make_gallery.main(toy / "nowhere", toy / "gallery", toy / "properdocs.yml", toy / "papers.md")
    assert (toy / "gallery" / "toy.md").read_text() == before


def test_committed_results_can_be_judged_again(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduce("toy", toy / "runs" / "toy", jobs=1)
    make_gallery.main(toy / "runs", toy / "gallery", toy / "properdocs.yml", toy / "papers.md")
    before = json.loads((toy / "gallery" / "toy" / "results.json").read_text())
    judge = type(EXPERIMENT).claims
    monkeypatch.setattr(type(EXPERIMENT), "claims", lambda *given: judge(*given)[:1])
    make_gallery.judge_again(toy / "gallery" / "toy")
    after = json.loads((toy / "gallery" / "toy" / "results.json").read_text())
    assert [one["claim"] for one in json.loads((toy / "gallery" / "toy" / "claims.json").read_text())] == [
        "The sum is 14."
    ]
    assert after["run"]["result"] == {"runs": 3, "holds": 1, "does not hold": 0, "not testable here": 0}
    assert after["results"] == before["results"] and after["figures"] == before["figures"]


def test_claims_that_need_more_than_was_committed_are_refused(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduce("toy", toy / "runs" / "toy", jobs=1)
    make_gallery.main(toy / "runs", toy / "gallery", toy / "properdocs.yml", toy / "papers.md")
    file = toy / "gallery" / "toy" / "results.json"
    facts = json.loads(file.read_text())
    name = next(iter(facts["results"]))
    facts["results"][name]["curve"] = {"length": 99, "first": 1, "last": 2}
    file.write_text(json.dumps(facts))
    make_gallery.judge_again(toy / "gallery" / "toy")
    facts = json.loads(file.read_text())
    monkeypatch.setattr(type(EXPERIMENT), "claims", lambda own, results, _: [*results[name]["curve"]])
    with pytest.raises(LorateError, match="needs a list of 99 numbers, of which only the ends are committed"):
        make_gallery.judge_again(toy / "gallery" / "toy")
    monkeypatch.setattr(type(EXPERIMENT), "claims", lambda own, results, _: results[name])
    del facts["results"][name]
    file.write_text(json.dumps(facts))
    with pytest.raises(LorateError, match=f"needs a result '{name}' that is not committed"):
        make_gallery.judge_again(toy / "gallery" / "toy")
    assert json.loads(file.read_text()) == facts


def test_a_short_run_is_not_collected(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce("toy", toy / "runs" / "toy", Options(quick=True), jobs=1)
    make_gallery.main(toy / "runs", toy / "gallery", toy / "properdocs.yml", toy / "papers.md")
    assert "toy holds something else: lorate reproduce toy --quick" in capsys.readouterr().out
    assert not (toy / "gallery" / "toy").exists()


def test_long_lists_and_long_numbers_are_cut() -> None:
    long = [0.123456789, *range(30), 5]
    assert make_gallery.compact({"a": long, "b": [1.23456789]}) == {
        "a": {"length": 32, "first": 0.123457, "last": 5},
        "b": [1.23457],
    }
