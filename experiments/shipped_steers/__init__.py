"""How the shipped steers were trained."""
