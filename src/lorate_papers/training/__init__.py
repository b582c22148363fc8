"""Training runs of the experiments: a workload under a rule or a baseline, and constants that are tuned."""
