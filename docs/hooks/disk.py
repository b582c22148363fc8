"""Search without a server: the index as a script, which a page opened from the disk may load."""

from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority


@event_priority(-100)  # after the search plugin has written its index
def on_post_build(config: Any) -> None:
    """Write ``search_index.js``, where the theme looks for it; ``javascripts/worker.js`` does the searching."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")
