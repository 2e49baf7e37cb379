"""How the default solver's settings were chosen, and what was tried beside them."""
