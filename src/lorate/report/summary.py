"""The facts of a run as pairs of words: what was run, the key figures, a row of the comparison."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lorate.report.load import RunData
from lorate.report.verdict import held_out_change
from lorate.report.words import duration, number, numeral, percent, printable, whole


def facts(run: RunData) -> list[tuple[str, str]]:
    """What was run: pairs of a label and a value; what is not known is left out."""
    model, data, rule, config = run.part("model"), run.part("data"), run.part("rule"), run.part("config")
    pairs = [
        ("Model", _joined(model.get("name"), _words(model.get("kind")))),
        ("Parameters", _parameters(model)),
        ("Data", _joined(data.get("name"))),
        ("Examples", _joined(_counted(data.get("train"), "to train on"), _counted(data.get("eval"), "held out"))),
        ("Learned", _learned(data, config)),
        ("Data, notes", _notes(data)),
        ("Adapters", _adapters(run, config)),
        ("Rule", _joined(rule.get("name"))),
        ("lr", "" if number(rule.get("lr")) is None else f"{rule['lr']:g}"),
        ("Steps", _steps(run)),
        ("Batch", _batch(config)),
        ("Seen", _joined(_counted(run.last.get("tokens"), "tokens"), _counted(run.last.get("samples"), "samples"))),
        ("Seed", _joined(config.get("seed"))),
        ("Device", _joined(run.info.get("device"))),
        ("Started", _moment(run.info.get("started"))),
        ("Time", "" if seconds(run) is None else duration(seconds(run))),
        ("Status", "stopped before the end" if run.status == "stopped" else run.status),
    ]
    return [(label, value) for label, value in pairs if value]


def key_figures(run: RunData) -> list[tuple[str, str]]:
    """The few numbers in large type under the verdict."""
    pairs: list[tuple[str, str]] = []
    change = held_out_change(run)
    if change is not None:
        before, after, _ = change
        pairs.append(("held-out loss", f"{numeral(before)} → {numeral(after)}"))
        if before > 0:
            pairs.append(("change", percent((after - before) / before)))
        figures = run.part("result").get("figures")
        for name, pair in figures.items() if isinstance(figures, Mapping) else ():
            if isinstance(pair, list) and len(pair) == 2:
                pairs.append((printable(name).replace("_", " "), " → ".join(numeral(number(value)) for value in pair)))
    elif (last := _last_loss(run)) is not None:
        pairs.append(("training loss, smoothed", numeral(last)))
    pairs.append(("steps", _steps(run) or "0"))
    if seconds(run) is not None:
        pairs.append(("time", duration(seconds(run))))
    alarms, skipped = run.tally.alarm_total, run.tally.skipped_total
    pairs.append(("alarm" if alarms == 1 else "alarms", whole(alarms)))
    if skipped:
        pairs.append(("skipped step" if skipped == 1 else "skipped steps", whole(skipped)))
    return pairs


def row(run: RunData) -> list[tuple[str, str]]:
    """A row of the comparison: pairs of a column's head and value; the training loss is the last smoothed one."""
    change = held_out_change(run)
    losses = relative = "–"
    if change is not None:
        losses = f"{numeral(change[0])} → {numeral(change[1])}"
        if change[0] > 0:
            relative = percent((change[1] - change[0]) / change[0])
            if change[2] is not None:
                relative += f" ± {100 * change[2] / change[0]:.1f}%"
    lr = number(run.part("rule").get("lr"))
    return [
        ("Rule", run.rule or "–"),
        ("lr", "–" if lr is None else f"{lr:g}"),
        ("Held-out loss", losses),
        ("Change", relative),
        ("Training loss", numeral(_last_loss(run))),
        ("Steps", _steps(run) or "0"),
        ("Time", duration(seconds(run))),
        ("Alarms", whole(run.tally.alarm_total)),
        ("Skipped", whole(run.tally.skipped_total)),
        ("Status", run.status or "–"),
    ]


def command(run: RunData) -> str:
    """The command line that was typed; without it one that uses the stored options, or nothing."""
    typed = run.info.get("command")
    if isinstance(typed, str) and typed.strip():
        return typed
    return "lorate train --config config.yaml --output another-name" if (run.path / "config.yaml").exists() else ""


def seconds(run: RunData) -> float | None:
    """How long the run took; for one that did not end, until its last record."""
    total = number(run.info.get("seconds"))
    return total if total else number(run.last.get("seconds"))


def _last_loss(run: RunData) -> float | None:
    means = run.track.smoothed("loss")[1]
    return means[-1] if means else None


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part is not None and str(part))


def _words(kind: Any) -> str | None:
    return str(kind).replace("-", " ") if kind else None


def _counted(amount: Any, what: str) -> str | None:
    return None if not number(amount) else f"{whole(amount)} {what}"


def _learned(data: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    counts = data.get("counts")
    train = counts.get("train") if isinstance(counts, Mapping) else None
    train = train if isinstance(train, Mapping) else {}
    tokens, learned = number(train.get("tokens")), number(train.get("learned"))
    if not tokens or learned is None:
        return ""
    return f"{whole(learned)} of {whole(tokens)} tokens ({printable(config.get('train_on'))})"


def _notes(data: Mapping[str, Any]) -> str:
    """What was left out of the data, cut or taken together, as the run itself said it."""
    notes = data.get("notes")
    return " ".join(printable(note, most=200) for note in notes) if isinstance(notes, list) else ""


def _parameters(model: Mapping[str, Any]) -> str:
    total, trainable = number(model.get("parameters")), number(model.get("trainable"))
    if trainable is None:
        return "" if total is None else whole(total)
    if not total:
        return f"{whole(trainable)} trained"
    return f"{whole(trainable)} trained of {whole(total)} ({100 * trainable / total:.2g}%)"


def _adapters(run: RunData, config: Mapping[str, Any]) -> str:
    layers = len(run.layers.names)
    targets, alpha = config.get("targets"), config.get("alpha")
    return _joined(
        f"{layers:,} layer{'s' if layers > 1 else ''}" if layers else None,
        f"rank {config['rank']}" if config.get("rank") is not None else None,
        f"alpha {f'{alpha:g}' if isinstance(alpha, float) else alpha}" if alpha is not None else None,
        f"targets {' '.join(map(str, targets)) if isinstance(targets, list) else targets}" if targets else None,
    )


def _steps(run: RunData) -> str:
    planned = number(run.part("config").get("steps"))
    done = run.last_step
    if planned and planned != done:
        return f"{whole(done)} of {whole(planned)}"
    return whole(done) if done else ""


def _batch(config: Mapping[str, Any]) -> str:
    size, accumulate = number(config.get("batch_size")), number(config.get("accumulate"))
    if size is None:
        return ""
    return f"{whole(size)} × {whole(accumulate)} accumulated" if accumulate and accumulate > 1 else whole(size)


def _moment(text: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text) if text else ""
    zone = f" {moment.tzname()}" if moment.tzinfo else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"
