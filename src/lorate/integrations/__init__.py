"""lorate inside other people's training loops. Needs the extra ``hf``."""

from lorate.extras import require

require("transformers", extra="hf")
