"""An attachment says no to what it cannot do, and generation records what was attached before."""

import gc
import sys
import threading
import weakref

import jaxtyping
import pytest
import torch
from conftest import build
from families import FAMILIES

import lmsteer
from lmsteer.errors import InputError, MismatchError
from lmsteer.model.watch import around

IDS = torch.arange(5, 25).view(2, 10)


def one(name="s", site="output", where="all", scale=0.2):
    P, Q = torch.randn(2, 32, 4) * scale
    return lmsteer.Steer(P, Q, name, site, where=where)


NOT_WHERE = [None, 5, 1.5, True, [0, 1], ["all"], ("all",), "", "All", "everywhere", b"all"]
NOT_WHERE += [torch.ones(2, 10), torch.ones(2, 10, dtype=torch.long)]
NOT_WHERE += [torch.ones(shape, dtype=torch.bool) for shape in ((10,), (2, 10, 1), ())]
NOT_WHERE.append(torch.ones(2, 10, dtype=torch.bool).numpy())


@pytest.mark.parametrize(
    "where",
    NOT_WHERE,
    ids=repr,
)
def test_where_takes_what_it_documents(where, llama, tokenizer, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    told = "boolean tensor of shape"
    with pytest.raises(InputError, match=told):
        lmsteer.attach(llama, {one(): 1.0}, where=where)
    with pytest.raises(InputError, match=told):
        lmsteer.attach(llama, {}, where=where)
    with pytest.raises(InputError, match=f"{told}|where= of generate"):
        lmsteer.generate(llama, tokenizer, "it is", where=where)
    assert not llama._forward_pre_hooks
    if not isinstance(where, torch.Tensor):
        with pytest.raises(InputError, match="where must be one of"):
            one(where=where)


@pytest.mark.parametrize("where", ["trained", "all", "prompt", "response"])
@pytest.mark.parametrize("site", ["output", "input"])
def test_where_takes_all_that_it_documents(where, site, llama, tokenizer):
    with lmsteer.attach(llama, {one(site=site): 1.0}, where=where):
        llama(IDS)
    lmsteer.generate(llama, tokenizer, "it is", strengths={one(site=site): 1.0}, where=where)


def test_a_mask_is_for_one_forward_call(llama, tokenizer, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(InputError, match="a mask is for one forward call"):
        lmsteer.generate(llama, tokenizer, "it is", where=torch.ones(1, 5, dtype=torch.bool))


def test_a_handle_is_entered_once_and_closed_for_good(llama, steer):
    for strengths in ({steer: 1.0}, {steer: 0.0}, {}):
        handle = lmsteer.attach(llama, strengths)
        with handle:
            with pytest.raises(InputError, match="open in a with block already"):
                handle.__enter__()
            assert len(llama._forward_pre_hooks) == (strengths.get(steer, 0) != 0)
        for _ in range(2):
            with pytest.raises(InputError, match="is closed, and steers nothing"), handle:
                pass
        assert repr(handle).endswith("closed)")
        handle = lmsteer.attach(llama, strengths)
        handle.detach()
        handle.detach()
        with pytest.raises(InputError, match="call lmsteer.attach again"), handle:
            pass


def replaced_head(model):
    old = model.get_output_embeddings()
    model.set_output_embeddings(torch.nn.Linear(old.in_features, old.out_features, bias=False))


def replaced_table(model):
    model.set_input_embeddings(torch.nn.Embedding(*model.get_input_embeddings().weight.shape))


def resized(model):
    model.resize_token_embeddings(model.config.vocab_size + 5)


def resized_by_hand(model):
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        module.weight = torch.nn.Parameter(torch.cat([module.weight, module.weight[:3]]))
        if getattr(module, "bias", None) is not None:
            module.bias = torch.nn.Parameter(torch.cat([module.bias, module.bias[:3]]))


def replaced_trunk(model):
    name = model.base_model_prefix
    setattr(model, name, type(getattr(model, name))(model.config).eval())


BOTH = ("output", "input")
CHANGES = [
    *((change, site) for change in (resized, resized_by_hand) for site in BOTH),
    (replaced_head, "output"),
    (replaced_table, "input"),
    (replaced_trunk, "input"),
]


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama-tied", "llama-untied", "gptj-bias"])
@pytest.mark.parametrize(("change", "site"), CHANGES)
@pytest.mark.filterwarnings("ignore:.*mean_resizing.*", "ignore:.*new embeddings.*")
def test_a_table_changed_under_a_steer_is_an_error(change, name, site, tokenizer):
    model = build(name)
    steer = one(site=site)
    handle = lmsteer.attach(model, {steer: 1.0})
    model(IDS)
    change(model)
    for _ in range(2):
        with pytest.raises(MismatchError, match=r"while steers were attached.*attach them anew"):
            model(IDS)
    with pytest.raises(MismatchError, match="while steers were attached"):
        model.generate(input_ids=IDS, max_new_tokens=2)
    handle.detach()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    base = model(IDS).logits
    with lmsteer.attach(model, {steer: 1.0}, check=False):
        assert not torch.allclose(model(IDS).logits, base, atol=1e-3)
    assert torch.equal(model(IDS).logits, base)


@torch.no_grad()
def test_what_leaves_the_tables_in_place_goes_on():
    """Another dtype, a head with a table of its own, an adapter in the trunk: still steered."""
    model, steer = build("llama-tied"), one()
    hidden = model.model(IDS).last_hidden_state
    wanted = model.lm_head(hidden + hidden @ steer.matrix())
    with lmsteer.attach(model, {steer: 1.0}):
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        torch.testing.assert_close(model(IDS).logits, wanted)
        model.double()
        torch.testing.assert_close(model(IDS).logits.float(), wanted, rtol=1e-4, atol=1e-4)
    t5, steer = FAMILIES["T5"].build(), one(site="input")
    with lmsteer.attach(t5, {steer: 1.0}):
        t5(input_ids=IDS, decoder_input_ids=IDS)
        t5.encoder.embed_tokens = torch.nn.Embedding(*t5.shared.weight.shape)
        with pytest.raises(MismatchError, match="encoder.embed_tokens was replaced"):
            t5(input_ids=IDS, decoder_input_ids=IDS)


def test_a_dropped_model_takes_its_steers_along(steer):
    model = build("llama-untied")
    lmsteer.attach(model, {steer: 1.0, one(site="input"): 1.0})
    parts = [weakref.ref(p) for p in (model, model.lm_head, model.model.embed_tokens)]
    del model
    gc.collect()
    assert [part() for part in parts] == [None] * 3


@pytest.mark.parametrize("site", ["output", "input"])
def test_generate_inside_an_attachment_records_both(llama, tokenizer, site):
    one_, other = one("a", site, scale=0.3), one("b", site, scale=0.3)
    options = {"samples": 3, "max_new_tokens": 8, "seed": 5, "temperature": 0}
    prompts = ["it is", "so", "a longer prompt"]
    wanted = lmsteer.generate(
        llama, tokenizer, prompts, strengths=[{one_: 1.0, other: s} for s in (0.5, -1.0)], **options
    )
    before = dict(vars(llama.model.embed_tokens)), dict(vars(llama.lm_head))
    with lmsteer.attach(llama, {one_: 1.0}):
        found = lmsteer.generate(
            llama, tokenizer, prompts, strengths=[{other: s} for s in (0.5, -1.0)], **options
        )
        assert around(llama) == {one_: 1.0}
    assert [dict(r.strengths) for r in found] == [dict(r.strengths) for r in wanted]
    assert found == wanted
    with lmsteer.attach(llama, {one_: 0.25}), lmsteer.attach(llama, {one_: 0.5, other: -1.0}):
        found = lmsteer.generate(llama, tokenizer, prompts, strengths={one_: 0.25}, **options)
        plain = lmsteer.generate(llama, tokenizer, prompts, **options)
    assert found == [r for r in wanted if r.strengths["b"] == -1.0]
    assert {tuple(r.strengths.items()) for r in plain} == {(("a", 0.75), ("b", -1.0))}
    assert around(llama) == {}
    assert (dict(vars(llama.model.embed_tokens)), dict(vars(llama.lm_head))) == before


def test_where_nothing_is_attached_a_record_is_what_it_was(llama, tokenizer, steer, monkeypatch):
    """The random numbers are a function of the record alone, and no attachment is in it."""
    seen = []
    monkeypatch.setattr(
        sys.modules["lmsteer.generation.writing"],
        "uniforms",
        lambda prompts, batch, seed, length: seen.extend(batch) or torch.full((len(batch), 4), 0.5),
    )
    lmsteer.generate(llama, tokenizer, "it is", strengths=[{}, {steer: 1.0}], max_new_tokens=4)
    assert [row.strengths for row in seen] == [{}, {steer: 1.0}]


@pytest.mark.parametrize("where", ["prompt", "response"])
def test_prompts_are_shared_only_where_that_changes_nothing(llama, tokenizer, where):
    steer = one("a", "input", scale=0.3)
    options = {"samples": 3, "max_new_tokens": 8, "seed": 5, "temperature": 0}
    wanted = lmsteer.generate(
        llama, tokenizer, "it is so", strengths={steer: 1.0}, where=where, **options
    )
    with lmsteer.attach(llama, {steer: 1.0}, where=where):
        assert lmsteer.generate(llama, tokenizer, "it is so", **options) == wanted
    trained = lmsteer.Steer(steer.P, steer.Q, "a", "input", where="prompt")
    with lmsteer.attach(llama, {trained: 1.0}):
        found = lmsteer.generate(llama, tokenizer, "it is so", **options)
    assert (found == wanted) is (where == "prompt")


def test_rows_that_generate_cannot_keep_to_are_refused(llama, tokenizer, steer):
    for strength, where in (
        (torch.tensor([1.0, 2.0]), "all"),
        (1.0, torch.ones(2, 5, dtype=torch.bool)),
    ):
        with (
            lmsteer.attach(llama, {steer: strength}, where=where),
            pytest.raises(InputError, match="'style' is attached with a tensor.*per_prompt"),
        ):
            lmsteer.generate(llama, tokenizer, ["it is", "so"])


def test_a_stream_inside_an_attachment(llama, tokenizer, steer):
    options = {"max_new_tokens": 12, "seed": 3, "temperature": 0}
    (wanted,) = lmsteer.generate(llama, tokenizer, "it is", strengths={steer: 2.0}, **options)
    with lmsteer.attach(llama, {steer: 2.0}):
        assert "".join(lmsteer.stream(llama, tokenizer, "it is", **options)) == wanted.text


def test_steers_that_come_while_it_writes_are_told(llama, tokenizer, steer):
    """Another thread attaches between two batches: the records would be wrong from there on."""
    handles = []

    def attach(stage, done, total):
        thread = threading.Thread(
            target=lambda: handles.append(lmsteer.attach(llama, {steer: 1.0}))
        )
        thread.start()
        thread.join()

    with pytest.raises(InputError, match="attached to this model, or detached from it, while"):
        lmsteer.generate(
            llama, tokenizer, "it is", samples=4, batch_size=2, max_new_tokens=2, progress=attach
        )
    handles[0].detach()
