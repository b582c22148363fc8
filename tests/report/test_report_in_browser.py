"""The report in a real browser: desktop and phone, light and dark, by keyboard."""

import pytest

from browser_window import LOOKS, assert_sound, tab_to, wait_until
from report.synthetic import write_hostile_run, write_run, write_troubled_run

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from lorate.report import write_report

pytestmark = pytest.mark.slow

DRAWN = """[...document.querySelectorAll("figure svg")].filter(
  svg => svg.getBoundingClientRect().width > 250 && svg.querySelectorAll("path, use, image").length > 8).length"""
# every text with its own ground: the two must differ by 4.5:1 in luminance
PALE = """(() => {
  const part = c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = rgb => { const [r, g, b] = rgb.match(/[\\d.]+/g).map(Number);
    return .2126 * part(r) + .7152 * part(g) + .0722 * part(b) };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c)) return c } return "rgb(255, 255, 255)" };
  return [...document.querySelectorAll("main *, header *, footer *")].filter(e => !e.closest("svg")
    && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length).filter(e => {
      const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
      return (a + .05) / (b + .05) < 4.5 }).map(e => e.outerHTML.slice(0, 80));
})()"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """One run, and two side by side."""
    folder = tmp_path_factory.mktemp("reports")
    runs = [write_run(folder / "one").path, write_troubled_run(folder / "two").path]
    return [write_report(runs[:1]), write_report(runs, folder / "both.html")]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_report_is_whole_on_every_screen(window, reports, width, scheme):
    for report in reports:
        window.open(report.as_uri(), width, 900, scheme)
        assert_sound(window, width)
        assert window.evaluate(DRAWN) >= 6
        assert not window.evaluate("document.querySelector('button[data-copy]').hidden")
        assert window.evaluate(PALE) == []
        ground = window.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(11, 14, 18)") == (scheme == "dark")


def test_wide_tables_scroll_in_their_own_box(window, reports):
    window.open(reports[1].as_uri(), 390)
    box = "document.querySelector('.scroll')"
    assert window.evaluate(f"{box}.scrollWidth > {box}.clientWidth + 100")
    assert window.evaluate(f"{box}.getBoundingClientRect().right <= innerWidth")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_is_used_by_keyboard(window, reports, width):
    window.open(reports[0].as_uri(), width)
    window.press("Tab")
    assert window.evaluate("document.activeElement.className") == "skip"
    window.press("Enter")
    assert window.evaluate("document.activeElement.id") == "main"
    tab_to(window, "document.activeElement.textContent === 'All options'")
    assert not window.evaluate("document.activeElement.parentElement.open")
    window.press("Enter")
    assert window.evaluate("document.activeElement.parentElement.open")
    tab_to(window, "document.activeElement.matches('button[data-copy]')")
    window.press("Enter")
    wait_until(window, "document.querySelector('[role=status]').textContent !== ''")
    assert window.complaints == []


def test_hostile_words_do_nothing(window, tmp_path):
    window.open(write_report([write_hostile_run(tmp_path).path]).as_uri())
    assert_sound(window, 1280)
    assert window.evaluate("document.querySelectorAll('img').length") == 0
    assert window.evaluate("document.body.innerText.includes('<script>alert(1)</script>')")
