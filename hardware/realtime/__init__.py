"""Loops that keep time and memory that processes share, without ROS."""
