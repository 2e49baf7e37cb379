"""A steer as a classifier, and what reading costs."""
