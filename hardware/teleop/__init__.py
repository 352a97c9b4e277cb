"""Teleoperation devices: what a person holds to drive a robot, one small file each behind one interface.

`device` is the interface, `keyboard` and `gamepad` are devices, `clutch` makes take-overs free of jumps. Nothing here
needs ROS or torch; devices that come over ROS 2 or the network implement the same interface higher up.
"""
