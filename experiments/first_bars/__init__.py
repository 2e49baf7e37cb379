"""The first goals of the project, measured."""
