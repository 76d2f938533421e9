"""The root bus: the driver at the bottom of every stack that no other bus carries."""
