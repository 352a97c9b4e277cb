"""What a robot sees: boards, calibrations of cameras and where they are, poses of markers with their uncertainty."""
