"""Steers carried from one model to another."""
