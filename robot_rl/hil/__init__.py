"""Human in the loop: a person corrects a policy that learns on the robot.

`actor` runs the robot, `learner` trains beside it, `link` and `log` carry what happened from one to the other without
losing anything; `operators` decide when a person, or one that tests can use, takes over; `algorithms` has one file
per way of learning from it.
"""
