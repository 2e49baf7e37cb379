"""How the bundled language models were made."""
