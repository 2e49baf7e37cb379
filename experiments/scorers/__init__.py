"""How the shipped scorers were trained."""
