"""`lmsteer export`: one file per format."""
