"""What the experiments say of a paper's claim, read from the committed gallery while the site is built.

``<!-- verdict: logistic: grows without bound -->`` becomes the verdict on the claims of the experiment ``logistic``
that hold these words, or begin with them if a ``^`` is put in front. It is linked to their page; "not run yet" where
the gallery has no full run. Words that no claim holds end the build.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from properdocs.exceptions import PluginError

from lorate_papers.experiments import EXPERIMENTS

GALLERY = Path(__file__).parent.parent / "gallery"
VERDICT = re.compile(r"<!-- verdict: (?P<experiment>[\w-]+): (?P<words>.+?) -->")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the verdicts of a page of the top level."""
    return VERDICT.sub(lambda found: _verdict(found["experiment"], found["words"], page.file.src_uri), markdown)


def _verdict(experiment: str, words: str, page: str) -> str:
    if experiment not in EXPERIMENTS:
        raise PluginError(f"{page}: there is no experiment {experiment!r}")
    file = GALLERY / experiment / "claims.json"
    if not file.is_file():
        return f"`{experiment}`: not run yet"
    verdicts = matching(json.loads(file.read_text(encoding="utf-8")), words)
    if not verdicts:
        raise PluginError(f"{page}: no claim of {experiment} holds the words {words!r}")
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
