"""Simulated robots, tasks, batched environments and domain randomization."""
