"""The parts of the benchmark ``regret.py``."""
