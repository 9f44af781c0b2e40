"""What a test may say of time, though it must pass on a machine of any speed."""

from collections.abc import Callable

OnTime = Callable[[bool, object], None]
"""The fixture `on_time`: whether a time was kept, and the figures to show where it was not."""
