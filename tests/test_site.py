"""The documentation as a site: built strictly, and looked at in a real browser, from the disk."""

import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from browser_window import LOOKS, assert_sound, tab_to, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
EMPTY_PICTURES = "[...document.images].filter(image => !(image.complete && image.naturalWidth > 50)).map(i => i.src)"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("properdocs", reason="needs the extra dev")
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "properdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return folder


def test_the_site_refers_to_nothing_outside(site):
    loaded = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?https?:|<link[^>]*\shref=\"?https?:|url\([\"']?https?:")
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not loaded.search(page.read_text(encoding="utf-8")), f"{page.name} loads something from the network"


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_every_page_is_whole(site, window, width, scheme):
    pages = sorted(page for page in site.rglob("*.html") if page.name != "404.html")  # which needs a server
    assert len(pages) > 30
    for page in pages:
        window.open(page.as_uri(), width, 900, scheme)
        assert_sound(window, width)
        assert window.evaluate("document.querySelector('article').innerText.length") > 100, page
        assert window.evaluate(EMPTY_PICTURES) == [], page
        assert not window.evaluate("document.body.innerText.includes('<!--')"), page


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_figures_are_as_light_or_dark_as_the_page(site, window, tmp_path, width, scheme):
    pillow = pytest.importorskip("PIL.Image", reason="needs the extra hf")
    window.open((site / "gallery" / "attention.html").as_uri(), width, 900, scheme)
    window.evaluate("document.querySelector('article img').scrollIntoView()")
    box = window.evaluate("(b => [b.left, b.top, b.right, b.bottom])(document.images[0].getBoundingClientRect())")
    window.screenshot(tmp_path / "seen.png")
    picture = pillow.open(BytesIO((tmp_path / "seen.png").read_bytes())).convert("L").crop([round(x) for x in box])
    shades = picture.histogram()
    ground, darkest, lightest = shades.index(max(shades)), picture.getextrema()[0], picture.getextrema()[1]
    assert ground > 230 and darkest < 90 if scheme == "light" else ground < 50 and lightest > 170


def test_wide_formulas_and_tables_scroll_in_their_own_box(site, window):
    for page, box in (
        ("mathematics/paper.html", 'math[display="block"]'),
        ("reference/rules.html", ".md-typeset__scrollwrap"),
    ):
        window.open((site / page).as_uri(), 390)
        boxes = f"[...document.querySelectorAll('{box}')]"
        assert window.evaluate(f"{boxes}.some(one => one.scrollWidth > one.clientWidth + 20)"), page
        assert window.evaluate(f"{boxes}.every(one => one.getBoundingClientRect().right <= innerWidth)"), page


@pytest.mark.parametrize("width", [1280, 390])
def test_the_site_is_used_by_keyboard(site, window, width):
    window.open((site / "rules.html").as_uri(), width)
    tab_to(window, "document.activeElement.matches('.md-skip')")
    tab_to(window, "document.activeElement.id.startsWith('__palette')")
    window.press("Enter")
    assert window.evaluate("document.body.dataset.mdColorScheme") == "slate"
    tab_to(window, "document.activeElement.matches('.md-search__input')")
    window.evaluate(
        "document.activeElement.value = 'majorizer'; document.activeElement.dispatchEvent(new Event('keyup'))"
    )
    wait_until(window, "document.querySelector('.md-search-result__item')")
    window.press("Escape")
    tab_to(window, "document.activeElement.textContent.trim() === 'Start in five minutes'")
    window.evaluate("new Promise(done => setTimeout(done, 400))")  # the drawer of a narrow window comes in
    window.follow()
    assert window.evaluate("location.pathname").endswith("/start.html")
    assert window.complaints == []
