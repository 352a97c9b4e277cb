"""`robot-rl export BUNDLE --format c`: a policy bundle as freestanding C99, and that C under test."""
