"""Policies that imitate recorded demonstrations: one file each, what they share in `demonstrations` and `learner`."""
