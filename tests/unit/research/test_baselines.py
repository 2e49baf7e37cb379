"""Baselines: strength 0 is the base model, signs do what they say, nothing stays behind."""

import argparse
import contextlib
import copy
import json

import numpy as np
import peft
import pytest
import torch
from conftest import build
from families import FAMILIES
from safetensors.torch import save_file

import lmsteer
from lmsteer.errors import ArtefactError, InputError, MismatchError, NotFoundError, UnsupportedError
from lmsteer.model.merging import untie
from lmsteer.research.methods import caa, load_methods, lora, past, prefix
from lmsteer.research.methods.few_shot import FewShot
from lmsteer.research.methods.head_tuning import HeadTuning
from lmsteer.research.methods.instruction import Instruction
from lmsteer.research.methods.lm_steer import Steered
from lmsteer.research.methods.swb import SWB
from lmsteer.states.losses import target_losses
from lmsteer.text.batch import pad_batch
from lmsteer.text.encoding import encode

pytestmark = [  # PEFT's own, of what transformers renames
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning"),
]
IDS = torch.arange(5, 25).view(2, 10)
# Steers have tests of their own.
METHODS = {
    name: method for name, method in load_methods().items() if not issubclass(method, Steered)
}
LEARNED = ["dapt", "lora", "prefix", "swb", "head", "caa"]
OPTIONS = {"lora": {"rank": 2}, "few-shot": {"shots": 3}, "prefix": {"tokens": 3}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Steps that a tiny model with random weights needs to learn anything from 40 texts."""
    for module, rate in (("dapt", 0.03), ("lora", 0.03), ("prefix", 0.3)):
        monkeypatch.setattr(f"lmsteer.research.methods.{module}.RATE", rate)


def fitted(name, model, tokenizer, examples):
    return METHODS[name].fit(model, tokenizer, examples, **OPTIONS.get(name, {}))


def state(model):
    grads = [(n, p.requires_grad) for n, p in model.named_parameters()]
    modes = [m.training for m in model.modules()]
    return {n: v.clone() for n, v in model.state_dict().items()}, grads, modes, set(vars(model))


def is_same(before, after):
    same = all(torch.equal(v, after[0][n]) for n, v in before[0].items())
    return same and before[0].keys() == after[0].keys() and before[1:] == after[1:]


def likelihoods(model, tokenizer, examples):
    """Mean log-likelihood of a token of the positive texts, and of the negative ones."""
    found = []
    for sign in (1, -1):
        encoded = encode(tokenizer, [e for e in examples if e.label == sign], max_length=64)
        with torch.no_grad():
            losses = target_losses(model, pad_batch(encoded, range(len(encoded))))
        found.append(-float(losses.mean()))
    return found


@pytest.mark.parametrize("name", METHODS)
def test_strength_0_is_the_base_model_and_nothing_stays_behind(name, llama, tokenizer, examples):
    llama.lm_head.weight.requires_grad_(True)  # a wish that has to survive
    before, base = state(llama), llama(IDS).logits
    method = fitted(name, llama, tokenizer, examples)
    assert is_same(before, state(llama))
    with method.attach(llama, 0.0) as model:
        assert torch.equal(model(IDS).logits, base)
    plain = lmsteer.generate(llama, tokenizer, ["it is", "so"], max_new_tokens=5, samples=2)
    found = method.generate(llama, tokenizer, ["it is", "so"], 0.0, max_new_tokens=5, samples=2)
    assert [r.text for r in found] == [r.text for r in plain]
    assert found[0].strengths == {name: 0.0}
    if method.readable:
        with contextlib.suppress(ZeroDivisionError), method.attach(llama, -1.0) as model:
            assert not torch.equal(model(IDS).logits, base)
            raise ZeroDivisionError
    assert torch.equal(llama(IDS).logits, base)
    assert is_same(before, state(llama))
    assert method.parameters > 0 or name in ("instruction", "few-shot")


@pytest.mark.parametrize("name", LEARNED)
def test_signs_do_what_they_say(name, llama, tokenizer, examples):
    method = fitted(name, llama, tokenizer, examples * 16)  # so many steps more
    gaps = {}
    for strength in (1.0, -1.0):
        with method.attach(llama, strength) as model:
            above, below = likelihoods(model, tokenizer, examples)
            gaps[strength] = above - below
    above, below = likelihoods(llama, tokenizer, examples)
    assert gaps[-1.0] < above - below < gaps[1.0]


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].readable and n != "gedi"])
def test_what_is_written_is_what_is_read(name, llama, tokenizer, examples):
    """Greedy text from left-padded prompts is what one forward call over it finds likeliest.

    GeDi writes with a filter that reading has not: see test_guided.
    """
    method = fitted(name, llama, tokenizer, examples)
    prompts = ["it is", "a rather longer prompt"]
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "temperature": 0.0}
    records = method.generate(llama, tokenizer, prompts, 1.0, **options)
    assert [r.prompt for r in records] == prompts
    for record in records:
        start = tokenizer(record.prompt, return_tensors="pt").input_ids
        with method.attach(llama, 1.0) as model, torch.no_grad():
            ids = start
            for _ in range(6):
                scores = model(ids).logits[:, -1].clone()
                if ids.shape[1] < start.shape[1] + 6:
                    scores[:, 0] = -torch.inf  # no end before six tokens
                ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], dim=1)
        assert tokenizer.decode(ids[0, start.shape[1] :], skip_special_tokens=True) == record.text


def test_lora_is_pefts_own(llama, tokenizer, examples):
    method = fitted("lora", llama, tokenizer, examples)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=4 * 0.5, target_modules="all-linear"
    )
    other = peft.get_peft_model(build("llama-tied"), config)
    peft.set_peft_model_state_dict(other, method.adapters[1])
    with method.attach(llama, -0.5) as model:
        assert torch.allclose(model(IDS).logits, other.eval()(IDS).logits, atol=1e-5)
    assert not any("lm_head" in key or "embed" in key for key in method.adapters[0])
    again = lora.fit_adapter(
        llama, tokenizer, [e for e in examples if e.label > 0], rank=2, stage="fit", seed=0
    )
    assert all(torch.equal(v, method.adapters[0][k]) for k, v in again.items())


@pytest.mark.parametrize("name", ["Llama", "GPT-2", "OPT", "Gemma 3"])
def test_a_prefix_is_pefts_own(name, tokenizer, examples):
    model, other = (FAMILIES[name].build() for _ in range(2))
    method = fitted("prefix", model, tokenizer, examples)
    inside = peft.get_peft_model(
        other, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    )
    peft.set_peft_model_state_dict(inside, method.adapters[0])
    mask = torch.ones_like(IDS)
    mask[1, 7:] = 0
    truth = inside.eval()(input_ids=IDS, attention_mask=mask).logits
    with method.attach(model, 1.0) as model:
        found = model(IDS, attention_mask=mask).logits
    assert torch.allclose(found[mask.bool()], truth[mask.bool()], atol=1e-4)


def test_a_prefix_has_about_the_numbers_of_a_steer(llama, tokenizer, examples):
    method = prefix.PrefixTuning.fit(llama, tokenizer, examples)
    assert 0.5 < method.parameters / (2 * 32 * 32) < 1.5


@pytest.mark.parametrize("name", ["prefix", "instruction", "few-shot"])
def test_what_has_no_magnitude_says_so(name, llama, tokenizer, examples):
    method = fitted(name, llama, tokenizer, examples)
    with pytest.raises(InputError, match="must be -1, 0 or 1, was: 2"), method.attach(llama, 2.0):
        pass


def test_what_reads_a_past_refuses_a_state(tokenizer, examples):
    model = FAMILIES["Mamba"].build()
    with pytest.raises(UnsupportedError, match="keys and values"), past.with_past(model, None):
        pass


def test_offsets_minimise_the_formula(llama, tokenizer, examples, monkeypatch):
    """In float64: the fitted offsets are near the optimum of the penalised likelihood."""
    monkeypatch.setattr("lmsteer.research.methods.swb.EPOCHS", 300)
    monkeypatch.setattr(
        "lmsteer.research.methods.frozen.split_held_out", lambda e, s: ([*range(len(e))], [])
    )
    monkeypatch.setattr("lmsteer.research.methods.swb.read_frozen", _exact)
    method = SWB.fit(llama, tokenizer, examples)
    encoded = encode(tokenizer, examples, max_length=64)
    batch = pad_batch(encoded, range(len(encoded)))
    with torch.no_grad():
        logits = llama(**batch.inputs(torch.device("cpu"))).logits[:, :-1].double()
    is_target = batch.is_target[:, 1:]
    y = batch.labels[:, :1].expand(is_target.shape)[is_target].double()[:, None]
    rows, targets = logits[is_target], batch.input_ids[:, 1:][is_target]

    def penalised(b, d):
        nll = -(rows + y * b + d).log_softmax(-1).gather(1, targets[:, None]).sum()
        return nll + 1.5 * (b.square().sum() + d.square().sum())

    b = method.offset.double().requires_grad_()
    d = method.domain.double().requires_grad_()
    zero = torch.zeros_like(b).requires_grad_()
    at, start = penalised(b, d), penalised(zero, zero)
    gradients = [torch.cat(torch.autograd.grad(v, p)) for v, p in ((at, (b, d)), (start, (zero,)))]
    assert at < start
    assert gradients[0].norm() < 0.02 * gradients[1].norm()


def _exact(model, tokenizer, examples, *, progress=None):
    from lmsteer.model.head import Head, read_head
    from lmsteer.research.methods.frozen import Frozen
    from lmsteer.states.hidden import read_states

    class Plain(Head):
        def fast(self):
            return self

    states = read_states(model, encode(tokenizer, examples, max_length=64))
    head = read_head(model)
    return Frozen(Plain(head.weight, head.bias, head.scale, head.softcap), states, None)


@pytest.mark.parametrize("name", ["llama-tied", "gemma2-softcap", "granite-scale"])
def test_a_logit_bias_is_the_effect(name):
    model, vocab = build(name), build(name).config.vocab_size
    method = SWB(torch.randn(vocab) * 2)
    bias = method.to_logit_bias(-1.5, most=vocab)
    assert json.loads(json.dumps(bias)) == bias
    wanted = model(IDS).logits
    for key, value in bias.items():
        wanted[..., int(key)] += value
    with method.attach(model, -1.5):
        assert torch.allclose(model(IDS).logits, wanted, atol=1e-5)


def test_a_logit_bias_keeps_the_largest_within_what_apis_take(tokenizer):
    offset = torch.zeros(259)
    offset[[3, 7, 9, 11]] = torch.tensor([1.0, -300.0, 2.0, -0.5])
    method = SWB(offset)
    assert list(method.to_logit_bias(2.0, most=3).items()) == [
        ("7", -100.0),
        ("9", 4.0),
        ("3", 2.0),
    ]
    assert len(method.to_logit_bias()) == 4
    named = method.to_logit_bias(tokenizer=tokenizer, most=1)
    assert named == {tokenizer.decode([7]): -100.0}
    with pytest.raises(InputError, match="at least 1"):
        method.to_logit_bias(most=0)


def test_official_offsets(tmp_path, llama):
    options = argparse.Namespace(epsilon=2e-3, adaptor_class="offset")
    offsets = torch.randn(2, 259) * 100
    torch.save([options, {"offset_vec": offsets}, 1000], tmp_path / "swb.pt")
    method = SWB.from_official(tmp_path / "swb.pt", steer=0, dummy=1)
    method.save(tmp_path / "made" / "swb.safetensors")
    method = SWB.load(tmp_path / "made" / "swb.safetensors")
    # The official forward, written out: logits + epsilon * values @ offset_vec.
    truth = llama(IDS).logits + 2e-3 * (torch.tensor([5.0, 0.0]) @ offsets)
    with method.attach(llama, 5.0):
        assert torch.allclose(llama(IDS).logits, truth, atol=1e-4)
    assert torch.equal(method.domain, 2e-3 * offsets[1])
    with pytest.raises(UnsupportedError, match="SWB.from_official"):
        lmsteer.storage.import_official(tmp_path / "swb.pt")
    with pytest.raises(InputError, match="0 to 1, not 2"):
        SWB.from_official(tmp_path / "swb.pt", steer=2)
    projectors = {"projector1": torch.ones(1, 4, 2), "projector2": torch.ones(1, 4, 2)}
    torch.save([options, projectors, 1], tmp_path / "steer.pt")
    with pytest.raises(InputError, match="import_official"):
        SWB.from_official(tmp_path / "steer.pt")


def test_broken_files_of_offsets_are_refused(tmp_path, llama):
    file = tmp_path / "swb.safetensors"
    method = SWB(torch.ones(259))
    method.save(file)
    assert SWB.load(file).domain is None
    with pytest.raises(InputError, match="force=True"):
        method.save(file)
    SWB(torch.zeros(9)).save(file, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    small = SWB.load(file)
    with pytest.raises(MismatchError, match="vocabulary of 9"), small.attach(llama, 1.0):
        pass
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ArtefactError, match="damaged"):
        SWB.load(file)
    save_file({"offset": torch.ones(3)}, file)
    with pytest.raises(ArtefactError, match="not written by SWB.save"):
        SWB.load(file)
    SWB(torch.tensor([1.0, float("nan")])).save(tmp_path / "nan.safetensors")
    with pytest.raises(ArtefactError, match="not finite"):
        SWB.load(tmp_path / "nan.safetensors")
    with pytest.raises(NotFoundError):
        SWB.load(tmp_path / "none.safetensors")


def test_a_tuned_head_lies_on_a_line_and_leaves_the_input_table(model):
    change = torch.randn_like(model.get_output_embeddings().weight) * 0.1
    other = copy.deepcopy(model)
    untie(other, other.get_output_embeddings())
    with torch.no_grad():
        other.get_output_embeddings().weight.add_(change, alpha=0.5)
    method = HeadTuning((torch.zeros_like(change), change))
    with method.attach(model, -0.5):
        assert torch.allclose(model(IDS).logits, other(IDS).logits, atol=1e-4)
    with pytest.raises(MismatchError, match="fit it on this model"):
        HeadTuning((change[:9], change[:9])).attach(model, 1.0).__enter__()


@pytest.mark.parametrize("name", ["Llama", "GPT-2", "OPT", "BLOOM", "Gemma 3", "Mixtral", "Falcon"])
def test_the_vector_is_added_to_one_layers_rows(name, tokenizer):
    model = FAMILIES[name].build()
    layers = caa.layers_of(model)
    assert len(layers) == 2
    read = []
    layers[1].register_forward_pre_hook(
        lambda module, args, kwargs: read.append((*args, kwargs.get("hidden_states"))[0]),
        with_kwargs=True,
    )
    method = caa.CAA(torch.randn(32), 0)
    with torch.no_grad():
        model(IDS)
        with method.attach(model, -2.0):
            model(IDS)
    moved = -2.0 * method.vector.expand_as(read[0])
    assert torch.allclose(read[1] - read[0], moved, atol=1e-4)


def test_the_vector_is_a_difference_of_means(llama, tokenizer, examples):
    method = caa.CAA.fit(llama, tokenizer, examples[:16], layer=0)  # none held out
    means = []
    for sign in (1, -1):
        encoded = encode(tokenizer, [e for e in examples[:16] if e.label == sign], max_length=64)
        batch = pad_batch(encoded, range(len(encoded)))
        with torch.no_grad():
            rows = llama(
                **batch.inputs(torch.device("cpu")), output_hidden_states=True
            ).hidden_states[1]
        means.append(rows[batch.is_target].mean(0))
    # The pass is in bf16 where the hardware has products of it.
    assert (method.vector - means[0] + means[1]).norm() < 0.02 * method.vector.norm()
    with pytest.raises(UnsupportedError, match="layers"):
        caa.layers_of(FAMILIES["T5"].build())
    with pytest.raises(MismatchError, match="this model has 2"):
        caa.CAA(method.vector, 7).attach(llama, 1.0).__enter__()


@pytest.mark.parametrize("name", ["Llama", "GPT-2", "OPT", "BLOOM", "Gemma 3", "Falcon"])
def test_a_text_before_the_prompt_is_a_longer_prompt(name, tokenizer, examples):
    """With a tokenizer that begins texts itself, and with one that does not."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    model = FAMILIES[name].build()
    raw = type(tokenizer._tokenizer).from_str(tokenizer._tokenizer.to_str())
    raw.post_processor = TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 0)])
    begins = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", pad_token="<end>")
    for own in (tokenizer, begins):
        method = Instruction.fit(
            model, own, examples, instructions=("Please be kind: ", "Please be rude: ")
        )
        options = {"max_new_tokens": 6, "temperature": 0.0}
        found = method.generate(model, own, ["it is", "so very long"], -1.0, **options)
        longer = ["Please be rude: it is", "Please be rude: so very long"]
        plain = lmsteer.generate(model, own, longer, **options)
        assert [r.text for r in found] == [r.text for r in plain]
        ids = own(["it is"], return_tensors="pt").input_ids
        whole = own(longer[:1], return_tensors="pt").input_ids
        with method.attach(model, -1.0):
            read = model(ids).logits[0, -5:]
        assert torch.allclose(read, model(whole).logits[0, -5:], atol=1e-5)


def test_what_stands_before_the_prompt_is_of_its_side(llama, tokenizer, examples):
    above, below = Instruction.fit(llama, tokenizer, examples).texts
    assert all(word in above for word in ("good", "great"))
    assert all(word in below for word in ("awful", "sour"))
    assert "good" not in below
    few = FewShot.fit(llama, tokenizer, examples, shots=2, seed=1)
    for text, sign in zip(few.texts, (1, -1), strict=True):
        parts = text.strip().split("\n\n")
        assert all(part in {e.text for e in examples if e.label == sign} for part in parts)
        assert len(tokenizer(text).input_ids) <= 32  # half of the context
    assert few.texts == FewShot.fit(llama, tokenizer, examples, shots=2, seed=1).texts
    assert few.texts != FewShot.fit(llama, tokenizer, examples, shots=2, seed=2).texts
    with pytest.raises(InputError, match="shots"):
        FewShot.fit(llama, tokenizer, examples, shots=0)
    with pytest.raises(InputError, match="empty"):
        Instruction.fit(llama, tokenizer, examples, instructions=("", "x"))


def test_the_best_of_n_is_the_best_of_n(llama, tokenizer, examples):
    method = fitted("best-of", llama, tokenizer, examples)
    assert method.classify(["it is good"])[0] > 0 > method.classify(["it is awful"])[0]
    method.classify = lambda texts: np.array([len(text.encode()) / 99 for text in texts])
    options = {"samples": 2, "max_new_tokens": 6}
    every = lmsteer.generate(llama, tokenizer, ["it", "so"], max_new_tokens=6, samples=6)
    for strength, pick in ((3.2, max), (-3.0, min)):
        found = method.generate(llama, tokenizer, ["it", "so"], strength, **options)
        assert [(r.prompt, r.sample) for r in found] == [("it", 0), ("it", 1), ("so", 0), ("so", 1)]
        for record in found:
            mine = [r.text for r in every if r.prompt == record.prompt][record.sample :: 2]
            lengths = [len(text.encode()) for text in mine]
            assert len(record.text.encode()) == pick(lengths)
    base = lmsteer.generate(llama, tokenizer, ["it"], **options)
    alone = method.generate(llama, tokenizer, ["it"], -1.0, **options)
    assert [r.text for r in alone] == [r.text for r in base]
    with pytest.raises(UnsupportedError, match="whole texts"), method.attach(llama, 2.0):
        pass


def test_one_side_is_not_enough(llama, tokenizer, examples):
    for name in METHODS:
        with pytest.raises(InputError, match=r"both signs|two different"):
            fitted(name, llama, tokenizer, [e for e in examples if e.label > 0])
