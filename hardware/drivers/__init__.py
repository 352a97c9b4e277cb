"""Drivers without ROS: one interface from a robot's wire to the control process."""
