"""`python -m lmsteer.cli`."""

from . import main

main()
