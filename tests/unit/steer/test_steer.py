import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lmsteer
from lmsteer.errors import InputError, MismatchError
from lmsteer.steer.steer import Fingerprint, Steer


def test_matrix_is_the_map_of_rows(steer):
    row = torch.randn(1, 32)
    assert torch.allclose(row @ steer.matrix(), (row @ steer.P) @ steer.Q.T, atol=1e-5)


def test_from_matrix_is_exact_at_full_rank_and_best_below():
    W = torch.randn(12, 12)
    assert torch.allclose(Steer.from_matrix(W).matrix(), W, atol=1e-5)
    left, scale, right = torch.linalg.svd(W)
    best = left[:, :3] @ torch.diag(scale[:3]) @ right[:3]
    assert torch.allclose(Steer.from_matrix(W, 3).matrix(), best, atol=1e-4)


@given(st.floats(-5, 5), st.integers(1, 6))
def test_arithmetic_acts_on_the_matrix(factor, rank):
    a = Steer(torch.randn(8, rank), torch.randn(8, rank), "a")
    b = Steer(torch.randn(8, 2), torch.randn(8, 2), "b")
    assert torch.allclose((factor * a).matrix(), factor * a.matrix(), atol=1e-4)
    assert torch.allclose((-a).matrix(), -a.matrix())
    assert torch.allclose((a + b).matrix(), a.matrix() + b.matrix(), atol=1e-4)
    assert torch.allclose((a + b).matrix(), (b + a).matrix(), atol=1e-4)


def test_domain_is_kept_by_scaling_and_dropped_by_adding(steer):
    whole = Steer(steer.P, steer.Q, "whole", domain=steer)
    assert (2 * whole).domain is steer
    assert (-whole).domain is steer
    assert (whole + whole).domain is None


def test_truncate_reports_the_lost_share():
    W = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    cut, error = Steer.from_matrix(W).truncate(2)
    assert cut.rank == 2
    assert error == pytest.approx((1 / 14) ** 0.5, rel=1e-5)


def test_a_sum_of_rank_above_dim_truncates_to_dim_exactly():
    a, b = (Steer(torch.randn(4, 4), torch.randn(4, 4)) for _ in range(2))
    cut, error = (a + b).truncate(4)
    assert error < 1e-5
    assert torch.allclose(cut.matrix(), (a + b).matrix(), atol=1e-4)


def test_steers_are_equal_by_identity_and_never_share_the_callers_tensor():
    P = torch.ones(3, 1)
    a, b = Steer(P, P), Steer(P, P)
    assert a != b
    assert len({a, b}) == 2
    P.zero_()
    assert float(a.P.sum()) == 3.0


@pytest.mark.parametrize(
    ("P", "Q", "message"),
    [
        (torch.ones(3, 2), torch.ones(3, 1), "shape"),
        (torch.ones(3, 0), torch.ones(3, 0), "rank >= 1"),
        (torch.full((3, 1), float("nan")), torch.ones(3, 1), "NaN"),
    ],
)
def test_bad_factors_are_refused(P, Q, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(InputError, match=message):
        Steer(P, Q)


def test_other_models_and_dims_do_not_add():
    one, two = (Fingerprint(sketch=torch.eye(2)[i], model=f"m{i}") for i in range(2))
    a = Steer(torch.ones(3, 1), torch.ones(3, 1), "a", fingerprint=one)
    with pytest.raises(MismatchError, match="'m0'.*'m1'"):
        a + Steer(torch.ones(3, 1), torch.ones(3, 1), "b", fingerprint=two)
    with pytest.raises(MismatchError, match="output/3.*output/4"):
        a + Steer(torch.ones(4, 1), torch.ones(4, 1), "b")


def test_public_names():
    assert sorted(lmsteer.__all__) == lmsteer.__all__
    assert all(hasattr(lmsteer, name) for name in lmsteer.__all__)
