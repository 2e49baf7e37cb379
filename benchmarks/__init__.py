"""Timed comparisons: `python -m benchmarks train --help`."""
