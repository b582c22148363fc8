"""The rules whose claims the experiments test."""

PAPER = ("adaptive", "adaptive-loss", "normalized")
"""The paper's practical rules, each with one constant to tune."""
