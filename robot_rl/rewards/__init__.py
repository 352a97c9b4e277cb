"""Rewards from pictures: success classifier, physical guard, progress along demonstrations.

What runs on the robot (`classifier`, `guard`, `progress`) needs numpy and onnxruntime alone; what trains needs torch.
"""
