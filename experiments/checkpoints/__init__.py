"""Checkpoints of others, converted for the tests."""
