"""A browser for tests of pages, and what has to hold on every page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import Browser

LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
"""Desktop and phone: width of the window and colour scheme of the machine."""
FOCUSED = """(() => {
  const element = document.activeElement, next = element.nextElementSibling;
  const shown = [element, ...next?.tagName === "LABEL" ? [next] : []].find(one => {
    const box = one.getBoundingClientRect(), style = getComputedStyle(one);
    return box.width && box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight
      && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  });
  return {name: `${element.tagName}#${element.id} ${element.textContent.trim().slice(0, 40)}`, shown: !!shown};
})()"""


@pytest.fixture(scope="module")
def window() -> Iterator["Browser"]:
    from browser import Browser, find_chromium

    program = find_chromium()
    if program is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with Browser(program) as browser:
        yield browser


def assert_sound(window: "Browser", width: int) -> None:
    """Nothing failed to load or to run, nothing is wider than the window."""
    assert window.complaints == []
    assert window.evaluate("document.documentElement.scrollWidth") <= width


def wait_until(window: "Browser", holds: str, seconds: float = 10) -> None:
    """Wait for a JavaScript condition, looking every 50 milliseconds."""
    window.evaluate(f"""new Promise((done, fail) => {{
      const end = Date.now() + {1000 * seconds}, look = () =>
        {holds} ? done() : Date.now() > end ? fail(new Error({holds!r})) : setTimeout(look, 50);
      look() }})""")


def tab_to(window: "Browser", found: str, most: int = 60) -> None:
    """Press Tab until a JavaScript condition holds; wherever the focus is on the way, it can be seen."""
    for _ in range(most):
        window.press("Tab")
        focused = window.evaluate(FOCUSED)
        if not focused["shown"]:  # perhaps it is still moving in
            window.evaluate("new Promise(done => setTimeout(done, 500))")
            focused = window.evaluate(FOCUSED)
        assert focused["shown"], f"the focus cannot be seen on {focused['name']}"
        if window.evaluate(found):
            return
    raise AssertionError(f"{most} tabs do not lead to {found}")
