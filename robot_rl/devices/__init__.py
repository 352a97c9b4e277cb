"""What a person holds, by name: opening devices for whoever drives with them, and the command `robot-rl devices`."""
