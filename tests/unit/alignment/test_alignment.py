"""Steers carried between models."""

import warnings

import pytest
import torch
from conftest import build
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import lmsteer
from lmsteer.alignment.maps import fit_map
from lmsteer.alignment.transport import FORMS, TransferWarning
from lmsteer.errors import InputError, MismatchError
from lmsteer.interpretation.value import style_value
from lmsteer.text.vocabulary import pieces, shared_words

TEXTS = ["it is fine, how very good 🙂", "this was awful and that looks sour", "a", ""] * 30


@pytest.fixture
def words_tokenizer():
    """A SentencePiece-like vocabulary: whole words, the space drawn as a letter."""
    words = "it is fine how very good this was awful and that looks sour taste".split()
    vocab = {"<unk>": 0, "<s>": 1} | {f"▁{w}": i + 2 for i, w in enumerate(words)}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", bos_token="<s>")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), method=st.sampled_from(["ridge", "procrustes", "whitened"]))
def test_every_method_finds_a_map_that_is_there(seed, method):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    fit = fit_map(x, 3.0 * x @ turn + 5.0, torch.rand(400, generator=generator), method=method)
    assert fit.explained > 0.98
    # Procrustes assumes round clouds; the sample is round up to noise.
    torch.testing.assert_close(fit.matrix, 3.0 * turn, atol=0.15, rtol=0)
    noise = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    assert fit_map(x, noise, method=method).explained < 0.1


def test_words_meet_by_what_they_spell(tokenizer, words_tokenizer):
    found = pieces(words_tokenizer, 100)
    assert found[2] == " it"
    assert not {0, 1} & set(found)
    same = shared_words(tokenizer, tokenizer, 259, 259)
    assert torch.equal(*same)
    assert len(same[0]) >= 95  # printable ASCII; broken bytes have no string
    left, right = shared_words(words_tokenizer, words_tokenizer, 10, 12)
    assert left.tolist() == right.tolist() == list(range(2, 10))
    with_space, without = {3: " film", 4: "film", 5: " a"}, {7: "film", 8: " film", 9: "a"}
    tables = {"s": with_space, "t": without}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmsteer.text.vocabulary.pieces", lambda t, size: tables[t])
        left, right = shared_words("s", "t", 10, 10)
    assert dict(zip(left.tolist(), right.tolist(), strict=True)) == {3: 8, 4: 7, 5: 9}


@pytest.mark.parametrize("form", FORMS)
def test_to_itself_a_steer_stays_what_it_is(tokenizer, steer, form):
    pair = build("llama-untied"), tokenizer
    domain = lmsteer.Steer(torch.randn(32, 3) * 0.1, torch.randn(32, 3) * 0.1, "style.domain")
    steer = lmsteer.Steer(steer.P, steer.Q, "style", domain=domain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferWarning)
        carried = lmsteer.transfer(pair, pair, steer, form=form, texts=TEXTS, calibrate=False)
    for one, other in ((steer, carried), (steer.domain, carried.domain)):
        # The ridge is chosen on held-out rows, so that the map is the identity up to a little.
        assert lmsteer.steer.interference(one, other) > 0.98
    assert carried.record["transfer"]["scaled_by"] == pytest.approx(1, abs=0.1)
    assert carried.record["transfer"]["shared_words"] >= 95


def test_an_exact_change_of_basis_is_undone(tokenizer, llama, steer):
    """Scores of the carried steer equal the source's where states and embeddings are turned."""
    from lmsteer.alignment.transport import _carry

    H = torch.randn(32, 32, dtype=torch.float64)  # e_source = H e_target
    carried = _carry(steer, H, torch.linalg.inv(H), llama)
    c_target, e_target = torch.randn(2, 50, 32, dtype=torch.float64)
    c_source, e_source = c_target @ torch.linalg.inv(H), e_target @ H.T
    torch.testing.assert_close((c_source * e_source).sum(1), (c_target * e_target).sum(1))
    wanted = (c_source @ steer.matrix().double() * e_source).sum(1)
    found = (c_target @ carried.matrix().double() * e_target).sum(1)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_the_strength_is_the_sources(tokenizer, steer):
    from lmsteer.metrics.kl import divergence
    from lmsteer.model.head import read_head
    from lmsteer.states.hidden import read_states
    from lmsteer.text.encoding import encode_pairs

    source, target = build("llama-tied"), build("llama-untied")
    for model in (source, target):  # the same words in both, so that something can be carried
        model.get_input_embeddings().weight.data = build("llama-tied").lm_head.weight.data.clone()
        model.get_output_embeddings().weight = torch.nn.Parameter(
            build("llama-tied").lm_head.weight.data.clone(), requires_grad=False
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferWarning)
        carried = lmsteer.transfer(
            (source, tokenizer), (target, tokenizer), steer, form="inverse", texts=TEXTS,
            calibrate=False,
        )  # fmt: skip
    encoded = encode_pairs(tokenizer, [""] * len(TEXTS), TEXTS, max_length=64)
    sides = []
    for model, one in ((source, steer), (target, carried)):
        hidden = read_states(model, encoded).hidden
        found = divergence(read_head(model), hidden, one, [-1.0, 1.0])
        sides.append((found[-1.0] * found[1.0]) ** 0.5)
    assert sides[1] == pytest.approx(sides[0], rel=0.15)  # interpolated on a grid of strengths


def test_too_little_in_common_is_an_error(tokenizer, words_tokenizer, steer):
    source, target = build("llama-untied"), build("gpt2")
    with pytest.raises(MismatchError, match="share 13 words|share 14 words"):
        lmsteer.transfer((source, words_tokenizer), (source, words_tokenizer), steer, texts=TEXTS)
    # Embeddings of two random models have nothing to do with each other.
    with pytest.raises(MismatchError, match="explains nothing"):
        lmsteer.transfer((source, tokenizer), (target, tokenizer), steer, texts=TEXTS)
    with pytest.raises(InputError, match="form must be one of"):
        lmsteer.transfer((source, tokenizer), (source, tokenizer), steer, form="no")


def test_refining_begins_at_the_carried_steer(tokenizer, examples, steer):
    pair = build("llama-untied"), tokenizer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferWarning)
        options = {"form": "inverse", "texts": TEXTS, "calibrate": False}
        carried = lmsteer.transfer(pair, pair, steer, **options)
        refined = lmsteer.transfer(pair, pair, steer, examples=examples, **options)
    assert refined.record["transfer"]["refined_on"] == len(examples)
    # Forty short texts say little beside the carried steer, and something all the same.
    assert lmsteer.steer.interference(carried, refined) > 0.9
    assert not torch.allclose(refined.matrix(), carried.matrix(), atol=1e-5)
    fresh = lmsteer.train(*pair, examples, calibrate=False)
    assert not torch.allclose(refined.matrix(), fresh.matrix())


def test_training_begins_where_it_is_told(tokenizer, examples):
    pair = build("llama-untied"), tokenizer
    options = {"calibrate": False, "rank": 32, "steps": 1, "solver": "convex"}
    steer = lmsteer.Steer(torch.randn(32, 4) * 3, torch.randn(32, 4) * 3)
    near = lmsteer.train(*pair, examples, start=steer, **options)
    assert lmsteer.steer.interference(near, steer) > 0.9
    assert lmsteer.steer.interference(lmsteer.train(*pair, examples, **options), steer) < 0.3
    first = lmsteer.train(*pair, examples, calibrate=False, rank=32, solver="convex")
    options = {"calibrate": False, "rank": 32, "solver": "convex"}
    again = lmsteer.train(*pair, examples, start=first, **options)
    assert again.record["held_out"]["nll"] <= first.record["held_out"]["nll"] + 1e-3
    assert again.record["held_out"]["nll_base"] == first.record["held_out"]["nll_base"]
    for solver in ("cached", "newton"):
        with pytest.raises(InputError, match='start= goes with solver="convex"'):
            lmsteer.train(*pair, examples, solver=solver, start=first)
    with pytest.raises(MismatchError):
        lmsteer.train(build("gpt2"), tokenizer, examples, start=first, **options)


def test_to_the_small_bundled_model(bundled):
    steer = lmsteer.train(
        *bundled, lmsteer.read_examples("bundled:sentiment"), name="sentiment", calibrate=False
    )
    small = lmsteer.load_model("bundled-small")
    carried = lmsteer.transfer(bundled, small, steer, form="two-sided", calibrate=False)
    assert carried.dim == 192
    assert carried.domain.dim == 192
    fits = carried.record["transfer"]["fits"]
    assert fits["words"]["explained"] > 0.2
    value = style_value(*small, carried, ["a wonderful, delightful film", "a dull, awful mess"])
    assert value[0].probability > 0.5 > value[1].probability
