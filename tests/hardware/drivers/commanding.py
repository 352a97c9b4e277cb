"""What tests of arms' drivers do again and again."""

import time


def write_for(driver, command, seconds, period):
    """Write and read every `period` s, as a control loop does; the newest sample."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        driver.write(command)
        driver.read()
        time.sleep(period)
    return driver.read()


def read_until(driver, condition, within=5.0):
    """Read until a sample fulfils `condition`, or the time is up; the newest sample."""
    end = time.monotonic() + within
    while not condition(sample := driver.read()) and time.monotonic() < end:
        time.sleep(0.01)
    return sample
