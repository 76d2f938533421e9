"""A filter driver whose reads fail, named on a command line by its module."""

from tests.observe.observekit import failing_filter as driver_entry

__all__ = ["driver_entry"]
