"""What the experiments say of a paper's claim, written into a page from the committed gallery.

Between ``<!-- verdict: logistic: grows without bound -->`` and ``<!-- end -->`` stands the verdict on the claims of the
experiment ``logistic`` that hold these words, or begin with them if a ``^`` is put in front, linked to their page;
"not run yet" where the gallery has no full run.
"""

import json
import re
from collections import Counter
from pathlib import Path

from lorate.errors import LorateError
from lorate_papers.experiments import EXPERIMENTS

VERDICT = re.compile(r"(?P<asked><!-- verdict: (?P<experiment>[\w-]+): (?P<words>.+?) -->).*?<!-- end -->")


def filled(page: str, gallery: Path) -> str:
    """The text of a page with its verdicts as they are now.

    Raises:
        LorateError: there is no such experiment, or none of its claims holds the words.
    """
    return VERDICT.sub(lambda found: f"{found['asked']}{_verdict(found, gallery)}<!-- end -->", page)


def _verdict(asked: re.Match[str], gallery: Path) -> str:
    experiment, words = asked["experiment"], asked["words"]
    if experiment not in EXPERIMENTS:
        raise LorateError(f"there is no experiment {experiment!r}")
    file = gallery / experiment / "claims.json"
    if not file.is_file():
        return f"`{experiment}`: not run yet"
    verdicts = matching(json.loads(file.read_text(encoding="utf-8")), words)
    if not verdicts:
        raise LorateError(f"no claim of {experiment} holds the words {words!r}")
    return f"[`{experiment}`](gallery/{experiment}.md): {in_words(verdicts)}"


def matching(claims: list[dict[str, str]], words: str) -> list[str]:
    """The verdicts on the claims that hold these words, or begin with them after a ^.

    >>> claims = [{"claim": "It holds.", "verdict": "holds"}, {"claim": "Elsewhere: It holds.", "verdict": "open"}]
    >>> matching(claims, "It"), matching(claims, "^It")
    (['holds', 'open'], ['holds'])
    """
    start = words.removeprefix("^")
    if start == words:
        return [claim["verdict"] for claim in claims if words in claim["claim"]]
    return [claim["verdict"] for claim in claims if claim["claim"].startswith(start)]


def in_words(verdicts: list[str]) -> str:
    """One verdict, or how often each was given.

    >>> in_words(["holds", "holds"]), in_words(["holds", "does not hold", "holds"])
    ('holds', '2 × holds, 1 × does not hold')
    """
    counts = Counter(verdicts)
    return verdicts[0] if len(counts) == 1 else ", ".join(f"{count} × {verdict}" for verdict, count in counts.items())
