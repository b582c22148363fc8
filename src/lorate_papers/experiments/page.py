"""The report of an experiment: one self-contained HTML page in the style of the other reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorate.extras import require
from lorate.report import palette
from lorate.report.svg import inline_svg
from lorate.report.words import duration
from lorate.runs import write_atomically
from lorate_papers.experiments.experiment import Claim, Drawing, Experiment

TONES = {"holds": "good", "does not hold": "bad", "not testable here": "open"}
SIGNS = {"holds": "✓", "does not hold": "✕", "not testable here": "…"}


def write_page(
    path: Path,  # the file
    experiment: Experiment,  # gives title and summary
    drawings: Sequence[Drawing],  # the figures, in order
    claims: Sequence[Claim],  # with their verdicts
    info: Mapping[str, Any],  # the content of ``run.json``
) -> None:
    """Write the page; it refers to nothing outside itself."""
    jinja2 = require("jinja2", extra="report")
    environment = jinja2.Environment(
        loader=jinja2.PrefixLoader(
            {
                "report": jinja2.PackageLoader("lorate.report", "page_files"),
                "experiment": jinja2.PackageLoader("lorate_papers.experiments", "page_files"),
            }
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    safe = environment.filters["safe"]
    page = environment.get_template("experiment/experiment.html.jinja").render(
        title=experiment.title,
        summary=experiment.summary,
        claims=claims,
        tones=TONES,
        signs=SIGNS,
        drawings=[
            (safe(inline_svg(drawing.figure, f"d{place}", f"{drawing.title} {drawing.description}")), drawing)
            for place, drawing in enumerate(drawings)
        ],
        info=info,
        work=duration(info["seconds"]),
        palette=palette,
    )
    write_atomically(path, page)
