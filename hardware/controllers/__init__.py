"""Real-time controllers, the same code in simulation and on the robot."""
