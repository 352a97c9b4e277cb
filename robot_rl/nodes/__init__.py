"""ROS 2 nodes: thin faces on `robot_rl.control`, `hardware` and `sim`; the only code that imports rclpy."""
