"""What was measured, one folder per question: `python -m experiments.FOLDER.SCRIPT`."""
