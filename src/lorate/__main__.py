"""``python -m lorate``, which launchers start: ``accelerate launch -m lorate train ...``."""

from lorate.cli import main

main()
