"""Benchmarks: what the README and the docs claim, measured. `python -m robot_rl.bench --help`."""
