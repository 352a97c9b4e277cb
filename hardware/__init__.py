"""What must behave the same on a robot and in simulation: descriptions, controllers, safety."""

from hardware.descriptions import QuadrotorDescription, list_descriptions, load_description

__all__ = ["QuadrotorDescription", "list_descriptions", "load_description"]
