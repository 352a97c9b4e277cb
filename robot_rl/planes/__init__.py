"""The processes that drive a robot: control, policy, simulated robot, and the client of all of them."""
