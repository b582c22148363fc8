"""Pages in a real browser: whatever stands in a name or a text is shown as it is, and runs nothing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from browser_window import assert_sound
from lorate.jsonl import JsonlWriter
from lorate.runs import RunDirectory
from report.synthetic import step_record, write_layers, write_run

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from lorate.report import write_report
from lorate_papers.experiments.experiment import Claim, Drawing
from lorate_papers.experiments.page import write_page
from lorate_papers.experiments.plots import Curve, Panel, Points, curve_figure

if TYPE_CHECKING:
    from browser import Browser

pytestmark = pytest.mark.slow

ATTACKS = {
    "script": "<script>window.ran = 1</script>",
    "image": "\"'><img src=x onerror='window.ran = 1'>",
    "svg": "</text></svg><svg onload='window.ran = 1'></svg>",
    "end": "</script></style></title></textarea></pre>--><script>window.ran = 1</script>",
    "link": '<a href="javascript:window.ran = 1">x</a> javascript:window.ran=1',
    "template": "{{7*7}}{% raw %}${7*7}<%= 7*7 %>",
    "entity": "&lt;b&gt; &#60;b&#62; ]]> <![CDATA[x]]> <!-- x",
    "turned": "a\u202ecba\u202c \u2066x\u2069 \u200f",
    "control": "a\x00b\x07c\x1b[31md\x7fe\x9bf\ufffeg",
    "half a pair": "a\ud800b\udc00c",
}
SHOWN = {name: text.translate({0: None}).encode("utf-8", "replace").decode() for name, text in ATTACKS.items()}
"""What HTML makes of them: a zero byte is left out; a lone surrogate is a question mark in UTF-8."""
SIGNS = SHOWN | {"control": "a␀b␇c␛[31md␡e�f\ufffeg"}
"""The report shows a sign for each control character."""


def hostile(value: Any, attack: str) -> Any:
    """The same with the attack in every text and every name."""
    if isinstance(value, dict):
        return {key: hostile(entry, attack) for key, entry in value.items()} | {attack: attack}
    if isinstance(value, list):
        return [hostile(entry, attack) for entry in value]
    return attack if isinstance(value, str) else value


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_report_of_a_run(window: "Browser", tmp_path: Path, attack: str) -> None:
    text = ATTACKS[attack]
    run: RunDirectory = write_run(tmp_path / "run", layers=False)
    info = hostile(run.read_run(), text)
    run.write_run(info | {"lorate": text})
    run.samples.write_text(json.dumps([dict.fromkeys(("prompt", "before", "after"), text)]))
    write_layers(run, 40, np.random.default_rng(0), [f"{text}{i}" for i in range(5)])
    alarm = dict.fromkeys(("kind", "message", "remedy"), text)
    with JsonlWriter(run.metrics) as metrics:
        metrics.write(step_record(41, np.random.default_rng(0), skipped=text, alarms=[alarm]))
    for page in (
        write_report([run.path]),
        write_report([run.path, write_run(tmp_path / "other", layers=False).path], tmp_path / "both.html"),
    ):
        window.open(page.as_uri())
        check(window, SIGNS[attack])


def check(window: "Browser", shown: str) -> None:
    """No script ran, nothing of the text became an element, and the text is there to be read."""
    assert_sound(window, 1280)
    assert window.evaluate("window.ran") is None
    assert window.evaluate("document.querySelectorAll('img, iframe, a[href^=javascript], svg svg').length") == 0
    handlers = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    assert window.evaluate(handlers) == []
    assert window.evaluate(f"document.body.textContent.includes({json.dumps(shown)})")
    assert window.evaluate("document.querySelectorAll('script').length") <= 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_page_of_an_experiment(window: "Browser", tmp_path: Path, attack: str) -> None:
    text = ATTACKS[attack]

    class Hostile:
        title = text
        summary = text

    figure = curve_figure([Panel(text, [Curve(text, [1, 2], [3.0, 4.0], Points([1], [3.0], [0.5]))])], text)
    drawings = [Drawing("name", text, text, text, figure)]
    claims = [Claim(text, text, "holds"), Claim(text, text, "does not hold")]
    info = {
        "lorate": text, "command": text, "started": text, "seconds": 1.0, "versions": {text: text},
        "config": {"quick": True, "data": text}, "result": {"runs": text},
    }  # fmt: skip
    write_page(tmp_path / "page.html", Hostile(), drawings, claims, info)  # type: ignore[arg-type]
    window.open((tmp_path / "page.html").as_uri())
    check(window, SHOWN[attack])
    assert window.evaluate(f"document.title.startsWith({json.dumps(SHOWN[attack].strip())})") or attack == "control"
    assert window.evaluate("document.querySelectorAll('script').length") == 0
