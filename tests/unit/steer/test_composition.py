import pytest
import torch
from typer.testing import CliRunner

import lmsteer
from lmsteer.cli.app import app
from lmsteer.errors import InputError, MismatchError
from lmsteer.model.reading import read_hidden
from lmsteer.storage.steers import read_steer

IDS = torch.arange(5, 25).view(2, 10)


@pytest.fixture
def steers():
    return [
        lmsteer.Steer(torch.randn(32, r) * 0.2, torch.randn(32, r) * 0.2, name)
        for name, r in (("a", 3), ("b", 5), ("c", 2))
    ]


def naive(model, change):
    head = model.get_output_embeddings()
    hidden = read_hidden(model, input_ids=IDS).double()
    return change(hidden) @ head.weight.double().T


def test_a_sum_is_what_attaching_them_together_does(llama, steers):
    a, b, c = steers
    mix = {a: 2.0, b: -1.0, c: 0.5}
    together = lmsteer.compose(mix)
    assert together.rank == 10
    matrix = sum(s * steer.matrix().double() for steer, s in mix.items())
    truth = naive(llama, lambda h: h + h @ matrix)
    for strengths in (mix, {together: 1.0}):
        with lmsteer.attach(llama, strengths):
            found = llama(IDS).logits.double()
        assert (found - truth).abs().max() < 1e-4 * truth.abs().max()
    assert together.record["composed"] == {"a": 2.0, "b": -1.0, "c": 0.5}


def test_a_product_is_one_map_after_the_other(llama, steers):
    mix = dict(zip(steers, (0.7, -0.4, 0.3), strict=True))

    def change(hidden):
        for steer, s in mix.items():
            hidden = hidden + s * hidden @ steer.matrix().double()
        return hidden

    truth = naive(llama, change)
    product = lmsteer.compose(mix, how="product", name="all")
    with lmsteer.attach(llama, {product: 1.0}):
        found = llama(IDS).logits.double()
    assert (found - truth).abs().max() < 1e-4 * truth.abs().max()
    assert product.name == "all"
    plain = lmsteer.compose(mix)
    assert (plain.matrix() - product.matrix()).norm() > 0.01 * plain.matrix().norm()


def test_interference_is_the_cosine_of_the_maps(steers):
    a, b, _ = steers
    truth = torch.nn.functional.cosine_similarity(a.matrix().flatten(), b.matrix().flatten(), dim=0)
    assert lmsteer.steer.interference(a, b) == pytest.approx(float(truth), abs=1e-5)
    assert lmsteer.steer.interference(a, -3.0 * a) == pytest.approx(-1.0, abs=1e-5)


def test_mistakes(steers):
    a, *_ = steers
    with pytest.raises(InputError, match="no steers"):
        lmsteer.compose({})
    with pytest.raises(InputError, match="sum"):
        lmsteer.compose({a: 1.0}, how="mean")
    other = lmsteer.Steer(a.P, a.Q, "in", "input")
    with pytest.raises(MismatchError, match="same site"):
        lmsteer.compose({a: 1.0, other: 1.0})


def test_the_command(steers, tmp_path):
    for steer in steers[:2]:
        steer.save(tmp_path / steer.name)
    specs = [f"{tmp_path / 'a'}=2", f"{tmp_path / 'b'}=-1"]
    done = CliRunner().invoke(app, ["compose", *specs, "--out", str(tmp_path / "c")])
    assert done.exit_code == 0, done.output
    assert "cosine of the maps" in done.output
    found = read_steer(tmp_path / "c")
    assert torch.allclose(found.matrix(), 2 * steers[0].matrix() - steers[1].matrix(), atol=1e-5)
