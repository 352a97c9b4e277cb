"""`robot-rl calibrate`: cameras, where they are on an arm, and the boards to find that out with."""
