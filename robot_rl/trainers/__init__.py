"""Training a task with somebody else's library: `python -m robot_rl.trainers.rsl_rl arm-reach`, see docs/isaac_gym.md.

One file per library, each with settings that work on a laptop; the library itself is not a dependency.
"""
