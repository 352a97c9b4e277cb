"""A matrix of faults: every process killed, stopped and frozen, every input spoiled, for real, with times."""
