"""Write the report: one HTML page with everything in it."""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import lorate
from lorate.errors import LorateError
from lorate.extras import require, require_extra
from lorate.monitor.certificate import Certificate, certify
from lorate.report import captions, feedback, figures, palette
from lorate.report.heatmap import layer_figure
from lorate.report.load import RunData, load_runs
from lorate.report.summary import command, facts, key_figures, row
from lorate.report.svg import inline_svg
from lorate.report.verdict import comparison, judge
from lorate.report.words import listing, number, whole
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.reading import check_regular

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIGNATURE = '<meta name="generator" content="lorate'
_SHOWN = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: "␡"}
_SHOWN |= dict.fromkeys(range(0x80, 0xA0), "�")
"""A sign for each control character: names and texts may hold them, and a page that is copied hands them on."""

_LAYER_FIGURES = ("stacked_norm", "a_norm", "b_norm", "grad_norm", "effective_rank")


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: its SVG (safe markup), and the words under it."""

    svg: Any
    title: str
    caption: str


def write_report(runs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str] | None = None) -> Path:
    """Draw one self-contained HTML page about one run, or about several side by side.

    The page refers to nothing outside itself and opens offline. Files of a run that are missing or damaged
    are named on the page; the rest is shown.

    Args:
        runs: run directories.
        output: where to write. By default ``report.html`` in the run directory for one run, in the current
            directory for several. An earlier report there is replaced, any other file is not.

    Returns:
        The path of the page.

    Raises:
        LorateError: a directory is not a run, or ``output`` is a file that is not a report.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    require_extra("report")
    loaded = load_runs([Path(run) for run in runs])
    if output is not None:
        target = Path(output)
    else:
        target = RunDirectory(loaded[0].path).report if len(loaded) == 1 else Path("report.html")
    _refuse_to_overwrite(target)
    page = _render(loaded).translate(_SHOWN)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, page)
    return target


def _refuse_to_overwrite(target: Path) -> None:
    if target.is_dir():
        raise LorateError(f"{target} is a directory; give the name of a file, for example {target / 'report.html'}.")
    if target.exists():
        check_regular(target)
        with target.open("rb") as file:
            if _SIGNATURE.encode() not in file.read(4096):
                raise LorateError(f"{target} exists and is not a report of lorate; choose another name.")


def _render(runs: list[RunData]) -> str:
    jinja2 = require("jinja2", extra="report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lorate.report", "page_files"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["rule_class"] = lambda rule: rule if rule in palette.LIGHT else "other"
    environment.filters.update(whole=whole)
    styles = palette.line_styles([run.rule for run in runs])
    script = _page_file("page.js")
    safe = environment.filters["safe"]
    page = environment.get_template("page.html.jinja").render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared",
        version=lorate.__version__,
        css=safe(_page_file("page.css") + _palette_css()),
        script=safe(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        runs=[_view(run, place, line, safe) for place, (run, line) in enumerate(zip(runs, styles, strict=True))],
        curves=_curves(runs, safe),
        marks=captions.marks([run.track for run in runs]),
        comparison=comparison(runs) if len(runs) > 1 else "",
    )
    return str(page)


def _page_file(name: str) -> str:
    return files("lorate.report").joinpath("page_files", name).read_text(encoding="utf-8")


def _palette_css() -> str:
    """The rules' colours as CSS variables, for light and for dark paper."""

    def variables(colours: dict[str, str], paper: str) -> str:
        rules = {**colours, "other": palette.OTHER}
        return f"--paper:{paper};" + "".join(f"--rule-{rule}:{colour};" for rule, colour in rules.items())

    light = variables(palette.LIGHT, palette.LIGHT_PAPER)
    dark = variables(palette.DARK, palette.DARK_PAPER)
    keys = "".join(f".rule-{rule}{{--rule:var(--rule-{rule})}}" for rule in palette.LIGHT)
    return f"\n{keys}\n:root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _view(run: RunData, place: int, line: Any, safe: Any) -> dict[str, Any]:
    """Everything that the template shows of one run."""
    return {
        "name": run.name,
        "rule": run.rule,
        "dashes": "" if line == "solid" else " ".join(f"{1.6 * length:g}" for length in line[1]),
        "verdict": judge(run),
        "key_figures": key_figures(run),
        "row": row(run),
        "facts": facts(run),
        "formula": str(run.part("rule").get("formula") or ""),
        "layers": _layer_drawings(run, f"r{place}", safe),
        "layer_names": list(run.layers.names),
        "certificate": _certificate(run.path),
        "alarms": run.tally.alarms,
        "unlisted_alarms": run.tally.unlisted,
        "samples": run.samples,
        "command": command(run),
        "config": [(str(key), _option(value)) for key, value in run.part("config").items()],
        "versions": [("lorate", str(run.info.get("lorate")))]
        + [(str(key), str(value)) for key, value in run.part("versions").items() if key != "lorate"],
        "problems": run.problems,
    }


def _certificate(path: Path) -> Certificate | None:
    """What is known about a run; None where nothing is."""
    try:
        found = certify(path)
    except LorateError:
        return None
    return found if found.reason is None else None


def _option(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _curves(runs: list[RunData], safe: Any) -> list[Drawing]:
    """The figures against steps; of several runs overlaid."""
    tracks = [run.track for run in runs]
    if not any(run.series.total or run.evaluations for run in tracks):
        return []
    tail = captions.thinning(tracks)
    multipliers = {value for run in runs if (value := number(run.part("rule").get("lr"))) is not None}
    lr = f" (lr {listing([f'{value:g}' for value in sorted(multipliers)])} times the rule)" if multipliers else ""
    stacked = "Norm of A and B of all layers, stacked"
    norms: list[tuple[list[str], str]] = [
        (["stacked_norm", "a_norm", "b_norm"], f"{stacked} (‖V‖), and of each alone.")
    ]
    if len(runs) > 1:
        norms = [
            (["stacked_norm"], f"{stacked}."),
            (["a_norm"], "Norm of A of all layers."),
            (["b_norm"], "Norm of B of all layers: zero in an adapter that has not been trained."),
        ]
    plan: list[tuple[str, Figure, list[str], str]] = [
        ("Loss.", figures.loss_figure(tracks), ["loss"], captions.loss_caption(tracks)),
        ("Step size η.", figures.eta_figure(tracks), ["eta"], f"In force at each step{lr}.{tail}"),
        (
            "Gradient.",
            figures.gradient_figure(tracks),
            ["grad_norm"],
            f"Norm of the gradient of the loss with respect to all A and B, logarithmic.{tail}",
        ),
    ]
    plan += [("Norms.", figures.norm_figure(tracks, keys), keys, words + tail) for keys, words in norms]
    drawings = [
        Drawing(safe(inline_svg(figure, f"c{place}", f"{title} {captions.describe(tracks, keys)}")), title, caption)
        for place, (title, figure, keys, caption) in enumerate(plan)
    ]
    return [*drawings, *_feedback_drawings(runs, safe), *_drift_drawing(runs, safe)]


def _feedback_drawings(runs: list[RunData], safe: Any) -> list[Drawing]:
    """What rule ``auto`` saw; one figure a run that has it."""
    drawings = []
    for place, run in enumerate(run.track for run in runs if feedback.has_feedback(run.track)):
        words = f"{feedback.TITLE} {captions.describe([run], ['average_slope'])}"
        svg = inline_svg(feedback.feedback_figure(run), f"f{place}", words)
        title = feedback.TITLE if len(runs) == 1 else f"{run.label}: {feedback.TITLE}"
        drawings.append(Drawing(safe(svg), title, feedback.CAPTION + captions.thinning([run])))
    return drawings


def _drift_drawing(runs: list[RunData], safe: Any) -> list[Drawing]:
    """How the weights moved; nothing for runs whose windows were not recorded."""
    windows = [run.windows for run in runs if run.windows.series.total]
    if not windows:
        return []
    keys = ["signal", "drift"] if len(windows) == 1 else ["drift_ratio"]
    svg = inline_svg(figures.drift_figure(windows), "drift", f"Drift. {captions.describe(windows, keys)}")
    return [Drawing(safe(svg), "Signal and drift.", captions.drift_caption(windows))]


def _layer_drawings(run: RunData, prefix: str, safe: Any) -> list[Drawing]:
    if not len(run.layers.steps):
        return []
    drawings = []
    for key in _LAYER_FIGURES:
        if not np.isfinite(run.layers.quantity(key)).any():
            continue
        svg = inline_svg(layer_figure(run.layers, key), f"{prefix}-{key}", captions.describe_layers(run.layers, key))
        drawings.append(Drawing(safe(svg), "", captions.layer_caption(run.layers, key)))
    return drawings
