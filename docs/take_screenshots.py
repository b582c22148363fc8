"""Take the screenshots of the documentation: a report and the site, desktop and phone, light and dark.

``make screenshots`` does the run and calls this with its report. Needs Chromium.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from browser import Browser, find_chromium
from PIL import Image

IMAGES = Path(__file__).parent / "images"
SIZES = {"desktop": (1280, 1000), "phone": (390, 844)}
COLOURS = 128
"""A screenshot has few; a palette makes the file a third as large."""


def main(report: Path) -> None:
    """Replace the screenshots in docs/images; those of the report first, since the site shows them."""
    program = find_chromium()
    if program is None:
        sys.exit("There is no chromium on this machine: apt-get install chromium")
    with Browser(program) as window, tempfile.TemporaryDirectory() as site:
        shoot(window, "report", report)
        build = [sys.executable, "-m", "properdocs", "build", "--strict", "--quiet", "--site-dir", site]
        subprocess.run(build, cwd=IMAGES.parent.parent, check=True)
        shoot(window, "site", Path(site) / "index.html")


def shoot(window: Browser, name: str, page: Path) -> None:
    """The first screen of a page in all its looks."""
    for device, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            file = IMAGES / f"{name}-{device}-{scheme}.png"
            window.open(page.resolve().as_uri(), width, height, scheme)
            window.screenshot(file)
            compress(file)
            print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def compress(file: Path) -> None:
    """Write a PNG anew with a palette."""
    with Image.open(file) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python docs/take_screenshots.py REPORT")
    main(Path(sys.argv[1]))
