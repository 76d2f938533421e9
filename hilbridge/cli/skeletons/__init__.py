"""What ``hilbridge new`` writes, as modules that run: ``Skeleton`` and ``skeleton`` become the new driver's name."""
