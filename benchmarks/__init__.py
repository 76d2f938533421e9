"""Measurements, as ratios against peers that are measured in the same run: ``python -m benchmarks``, or ``make bench``."""
