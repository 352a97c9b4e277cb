"""The last thing between a command and a robot."""
