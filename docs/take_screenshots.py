"""Take the screenshots of the documentation: of reports, on a desktop and a phone, light and dark.

``make screenshots`` does the demo's run and calls this with its report. A second argument is the report of the run in
``docs/tutorial.md``, of which the first screen is kept. Needs Chromium.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from browser import Browser, find_chromium
from PIL import Image

IMAGES = Path(__file__).parent / "images"
SIZES = {"desktop": (1280, 1000), "phone": (390, 844)}
COLOURS = 128
"""A screenshot has few; a palette makes the file a third as large."""


def main(report: Path, tutorial: Path | None = None) -> None:
    """Replace the screenshots in docs/images."""
    program = find_chromium()
    if program is None:
        sys.exit("There is no chromium on this machine: apt-get install chromium")
    with Browser(program) as window:
        shoot(window, "report", report, SIZES)
        if tutorial is not None:
            shoot(window, "tutorial", tutorial, {"desktop": SIZES["desktop"]})


def shoot(window: Browser, name: str, page: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """The first screen of a page, light and dark, in windows of these sizes."""
    for device, (width, height) in sizes.items():
        for scheme in ("light", "dark"):
            file = IMAGES / f"{name}-{device}-{scheme}.png"
            window.open(page.resolve().as_uri(), width, height, scheme)
            window.screenshot(file)
            compress(file)
            print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def compress(file: Path) -> None:
    """Rewrite a PNG with a palette."""
    with Image.open(file) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("Usage: python docs/take_screenshots.py REPORT [REPORT_OF_THE_TUTORIAL]")
    main(*map(Path, sys.argv[1:]))
