"""The public names: exactly what `lmsteer` shows."""

import types

import lmsteer


def test_what_is_visible_is_what_is_public():
    visible = {
        name
        for name, value in vars(lmsteer).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert visible == set(lmsteer.__all__)
    assert sorted(lmsteer.__all__) == lmsteer.__all__
    assert 12 <= len(lmsteer.__all__) <= 20


def test_every_public_name_is_documented():
    for name in lmsteer.__all__:
        assert getattr(lmsteer, name).__doc__, name
