"""Learning, the command line, ROS 2 nodes and reports."""
