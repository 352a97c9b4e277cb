"""The cockpit: one page in the browser to watch a robot, drive it, judge what it does and record it.

`device` is the page as a teleoperation device, `server` serves it (`access`, `seat`, `viewer` say to whom and how
fast), `arm_session` and `flight_session` are simulated robots behind it, `hil` puts it into a human-in-the-loop run;
`robot_rl.nodes.cockpit` is the same page on a ROS 2 robot.
"""
