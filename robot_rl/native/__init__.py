"""A policy exported to C in a thread of its own: no interpreter between its state and its command."""
