"""The checker of shapes and types while tests run (see `addopts` in pyproject.toml)."""

from beartype import BeartypeConf, beartype

# An int is welcome where a float is asked for, as type checkers have it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
