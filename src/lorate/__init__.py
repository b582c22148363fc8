"""LoRA fine-tuning with step sizes from theory."""

__version__ = "0.1.0"
