"""Beside the product's path: other methods, their comparison, evaluation, the theory."""
