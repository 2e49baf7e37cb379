"""Models inside wrappers, and with adapters in them, against the formula written by hand."""

import contextlib
import copy
import importlib

import pytest
import torch
from conftest import build
from families import FAMILIES
from torch import distributed as dist
from transformers import DynamicCache

import lmsteer
from lmsteer.errors import MismatchError, UnsupportedError
from lmsteer.model.reading import cache_name, changed_inputs, read_hidden
from lmsteer.model.tables import input_tables
from lmsteer.model.wrappers import learned_prompt, unwrap

# PEFT's own, of names that transformers is to drop and of tied tables.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*past_key_values.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*tie.*:UserWarning"),
]
peft = pytest.importorskip("peft")
IDS = torch.arange(5, 25).view(2, 10)
MASK = (torch.arange(20).view(2, 10) % 3 == 0) & (IDS > 6)
LORA = {"task_type": "CAUSAL_LM", "r": 3, "init_lora_weights": False}


def adapted(model, **options):
    torch.manual_seed(5)
    found = peft.get_peft_model(model, peft.LoraConfig(**LORA, **options)).eval()
    for name, parameter in found.named_parameters():  # what is learned beside the base, and differs
        if "modules_to_save" in name or "trainable_tokens_delta" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return found


def injected(model):
    torch.manual_seed(5)
    config = peft.LoraConfig(**LORA, target_modules=["q_proj", "embed_tokens"])
    return peft.inject_adapter_in_model(config, model).eval()


ADAPTERS = {
    "lora": lambda m: adapted(m, target_modules=["q_proj", "v_proj"]),
    "lora-table": lambda m: adapted(m, target_modules=["q_proj", "embed_tokens"]),
    "lora-head": lambda m: adapted(m, target_modules=["q_proj", "lm_head"]),
    "lora-both": lambda m: adapted(m, target_modules=["embed_tokens", "lm_head"]),
    "saved-table": lambda m: adapted(
        m, target_modules=["q_proj"], modules_to_save=["embed_tokens"]
    ),
    "saved-head": lambda m: adapted(m, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "tokens": lambda m: adapted(m, target_modules=["q_proj"], trainable_token_indices=[7, 9, 11]),
    "tuner": lambda m: adapted(m, target_modules=["q_proj", "embed_tokens"]).base_model,
    "injected": injected,
    "parallel": torch.nn.DataParallel,
    "parallel-lora": lambda m: torch.nn.DataParallel(adapted(m, target_modules=["embed_tokens"])),
    "compiled-lora": lambda m: torch.compile(
        adapted(m, target_modules=["embed_tokens"]), backend="eager", disable=True
    ),
}


def one(site, name="style"):
    generator = torch.Generator().manual_seed(3)
    P, Q = torch.randn(2, 32, 4, generator=generator) * 0.2
    return lmsteer.Steer(P, Q, name, site)


def truth(model, steer, strength, mask):
    """The formula in float64, on the layers themselves; `mask` of the positions it acts on."""
    exact = copy.deepcopy(unwrap(model)).double()
    W, mask = strength * steer.matrix().double(), mask[..., None]
    rows = exact.model.embed_tokens(IDS)
    if steer.site == "input":
        return exact(inputs_embeds=rows + rows @ W * mask).logits
    hidden = exact.model(inputs_embeds=rows).last_hidden_state
    return exact.lm_head(hidden + hidden @ W * mask)


def in_two_calls(model):
    inside = unwrap(model)
    cache = DynamicCache(config=inside.config)
    given = {cache_name(model): cache, "use_cache": True}
    return torch.cat([model(input_ids=p, **given).logits for p in IDS.split([6, 4], dim=1)], dim=1)


def close(found, wanted):
    torch.testing.assert_close(found.double(), wanted, rtol=2e-4, atol=2e-4)


@torch.no_grad()
@pytest.mark.parametrize("site", ["output", "input"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", list(ADAPTERS))
def test_every_wrapper_is_steered_by_the_formula(name, tied, site):
    model = ADAPTERS[name](build("llama-tied" if tied else "llama-untied"))
    steer, everywhere = one(site), torch.ones_like(IDS, dtype=torch.bool)
    modules = {m: (dict(vars(m)), {**m._forward_hooks}) for m in model.modules()}
    base = model(input_ids=IDS).logits
    # At the output site the prompt's last position belongs to the response.
    prompt = (torch.arange(10) < (6 if site == "input" else 5))[None].expand_as(IDS)
    wanted = [truth(model, steer, 1.5, mask) for mask in (everywhere, MASK, prompt, ~prompt)]
    with lmsteer.attach(model, {steer: 1.5}):
        found = model(input_ids=IDS).logits
    close(found, wanted[0])
    assert not torch.allclose(found, base, atol=0.01)
    with lmsteer.attach(model, {steer: 1.5}, where=MASK):
        close(model(input_ids=IDS).logits, wanted[1])
    with lmsteer.attach(model, {steer: 1.5}, where="prompt"):
        close(in_two_calls(model), wanted[2])
    with lmsteer.attach(model, {steer: 1.5}, where="response"):
        close(in_two_calls(model), wanted[3])
    with lmsteer.attach(model, {steer: 1.0}), lmsteer.attach(unwrap(model), {steer: 0.5}):
        close(model(input_ids=IDS).logits, wanted[0])
    assert torch.equal(model(input_ids=IDS).logits, base)
    for module, (attributes, hooks) in modules.items():
        assert vars(module).keys() == attributes.keys()
        assert module._forward_hooks == hooks
        assert not module._forward_pre_hooks or "peft" in str(module._forward_pre_hooks)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_every_wrapper_writes_what_the_model_inside_writes(name, tokenizer):
    model = ADAPTERS[name](build("llama-untied"))
    steers = one("input", "in"), one("output", "out")
    options = {"strengths": [{s: 1.0} for s in steers], "samples": 2, "max_new_tokens": 6}
    found = lmsteer.generate(model, tokenizer, ["it is", "so"], **options)
    assert found == lmsteer.generate(unwrap(model), tokenizer, ["it is", "so"], **options)
    apart = lmsteer.generate(model, tokenizer, ["it is", "so"], share_prompts=False, **options)
    assert found == apart


@pytest.mark.parametrize("site", ["output", "input"])
@pytest.mark.parametrize("name", ["lora-both", "saved-table", "saved-head", "tokens", "parallel"])
def test_training_inside_a_wrapper(name, site, tokenizer, examples):
    model = ADAPTERS[name](build("llama-untied"))
    asked = {key: p.requires_grad for key, p in model.named_parameters()}
    options = {"site": site, "rank": 4, "steps": 6, "calibrate": False, "domain": False}
    steer = lmsteer.train(model, tokenizer, examples, fast=False, **options)
    assert asked == {key: p.requires_grad for key, p in model.named_parameters()}
    plain = lmsteer.train(unwrap(model), tokenizer, examples, fast=False, **options)
    torch.testing.assert_close(steer.matrix(), plain.matrix())
    assert steer.record["held_out"]["nll"] != steer.record["held_out"]["nll_base"]
    if site == "input":  # a change of the embeddings acts once, adapter or not
        W = 0.3 * steer.matrix() + torch.eye(32) * 0.1
        whole = torch.ones_like(IDS, dtype=torch.bool)
        with torch.no_grad():
            wanted = truth(model, lmsteer.Steer.from_matrix(W, site="input"), 1.0, whole)
            with changed_inputs(model, lambda rows: rows + rows @ W):
                close(unwrap(model)(input_ids=IDS).logits, wanted)
    # Beside an adapter the table is known as the model's own; a copy in its place is another one.
    another = name == {"input": "saved-table", "output": "saved-head"}[site]
    expected = pytest.raises(MismatchError) if another else contextlib.nullcontext()
    with expected, lmsteer.attach(build("llama-untied"), {steer: 1.0}):
        pass


def test_merging_an_adapted_model_is_refused():
    for name in ("lora", "lora-head", "saved-head", "injected"):
        with pytest.raises(UnsupportedError, match="without adapters of PEFT"):
            lmsteer.merge(ADAPTERS[name](build("llama-untied")), {one("output"): 1.0})
    with pytest.raises(UnsupportedError, match="PROMPT_TUNING"):
        lmsteer.merge(prompted("prompt"), {one("output"): 1.0})
    model = build("llama-tied")
    merged = lmsteer.merge(torch.nn.DataParallel(model), {one("output"): 1.0})
    assert type(merged) is type(model)


def prompted(kind):
    torch.manual_seed(5)
    common = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}
    config = {
        "prompt": lambda: peft.PromptTuningConfig(**common),
        "p-tuning": lambda: peft.PromptEncoderConfig(**common, encoder_hidden_size=8),
        "prefix": lambda: peft.PrefixTuningConfig(**common),
    }[kind]()
    return peft.get_peft_model(build("llama-untied"), config).eval()


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:Position ids are not supported")
@pytest.mark.parametrize("kind", ["prompt", "p-tuning", "prefix"])
def test_learned_prompts_are_steered_whole_or_refused_by_name(kind, tokenizer, examples):
    model = prompted(kind)
    inside = unwrap(model)
    assert learned_prompt(torch.nn.DataParallel(model)) is model
    base = model(input_ids=IDS).logits
    steer, head = one("input", "in"), one("output", "out")
    rows = inside.model.embed_tokens(IDS)
    with lmsteer.attach(model, {steer: 1.5}):
        found = model(input_ids=IDS).logits
    wanted = model(inputs_embeds=rows + 1.5 * rows @ steer.matrix()).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    seen = []
    handle = inside.lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(input_ids=IDS)
    handle.remove()
    with lmsteer.attach(model, {head: 1.5}):
        found = model(input_ids=IDS).logits
    wanted = inside.lm_head(seen[0] + 1.5 * seen[0] @ head.matrix())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    for where in ("prompt", "response", MASK):
        for acting in (steer, head):
            with pytest.raises(UnsupportedError, match="PeftModelForCausalLM with P"):
                lmsteer.attach(model, {acting: 1.0}, where=where)
    with pytest.raises(UnsupportedError, match="reads a learned prompt"):
        read_hidden(model, input_ids=IDS)
    with pytest.raises(UnsupportedError, match="cannot be read, so it can be steered but not"):
        lmsteer.train(model, tokenizer, examples, calibrate=False)
    assert torch.equal(model(input_ids=IDS).logits, base)


@pytest.mark.filterwarnings("ignore:Position ids are not supported")
def test_text_after_a_learned_prompt_is_that_of_peft(tokenizer):
    model = prompted("prompt")
    given = tokenizer("it is", return_tensors="pt")
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    ids = {k: given[k] for k in ("input_ids", "attention_mask")}
    steer = one("output")
    found = lmsteer.generate(
        model, tokenizer, ["it is"] * 2, strengths=[{}, {steer: 2.0}], temperature=0,
        max_new_tokens=6,
    )  # fmt: skip
    texts = []
    for strength in (0.0, 2.0):
        with lmsteer.attach(model, {steer: strength}):
            written = model.generate(**ids, **options)
        texts.append(tokenizer.decode(written[0, -6:], skip_special_tokens=True))
    assert [record.text for record in found] == texts * 2
    assert texts[0] != texts[1]


@torch.no_grad()
@pytest.mark.parametrize("site", ["output", "input"])
def test_models_that_accelerate_keeps_elsewhere(site, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    for name in ("GPT-2", "T5"):
        model = FAMILIES[name].build()
        given = {"input_ids": IDS}
        if name == "T5":
            given["decoder_input_ids"] = IDS.flip(0)
        steer = one(site)
        with lmsteer.attach(model, {steer: 1.5}):
            wanted = model(**given).logits
        away = copy.deepcopy(model)
        accelerate.disk_offload(away, tmp_path / name, execution_device="cpu")
        assert input_tables(away)[0].weight.device.type == "meta"
        assert len(input_tables(away)) == len(input_tables(model))
        with lmsteer.attach(away, {steer: 1.5}):
            torch.testing.assert_close(away(**given).logits, wanted, rtol=1e-4, atol=1e-4)
        if name == "GPT-2":
            with lmsteer.attach(model, {steer: 1.5}, where="prompt"):
                wanted = in_two_calls(model)
            forwards = [vars(module).get("forward") for module in away.modules()]
            importlib.import_module("torch._dynamo")  # from now on hooks are made known to it
            with lmsteer.attach(away, {steer: 1.5}, where="prompt"):
                torch.testing.assert_close(in_two_calls(away), wanted, rtol=1e-4, atol=1e-4)
            assert [vars(module).get("forward") for module in away.modules()] == forwards
        marked = lmsteer.model.identity.fingerprint(away, site)
        assert marked.matches(lmsteer.model.identity.fingerprint(model, site))


@pytest.fixture
def alone_in_a_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@torch.no_grad()
def test_one_process_of_many(alone_in_a_group, tokenizer):
    model = build("llama-untied").requires_grad_(True)
    steer, whole = one("input"), torch.ones_like(IDS, dtype=torch.bool)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    for where, mask in (("all", whole), (MASK, MASK)):
        wanted = truth(model, steer, 1.5, mask)
        with lmsteer.attach(parallel, {steer: 1.5}, where=where):
            close(parallel(input_ids=IDS).logits, wanted)
    options = {"strengths": {steer: 1.0}, "max_new_tokens": 4}
    found = lmsteer.generate(parallel, tokenizer, "it is", **options)
    assert found == lmsteer.generate(model, tokenizer, "it is", **options)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_sharded_models_are_refused_by_name(alone_in_a_group):
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    first = FullyShardedDataParallel(build("llama-untied"), device_id=torch.device("cpu"))
    with pytest.raises(UnsupportedError, match="FullyShardedDataParallel shards the weights"):
        lmsteer.attach(first, {one("output"): 1.0})
    second = fully_shard(build("llama-untied"), mesh=dist.init_device_mesh("cpu", (1,)))
    with pytest.raises(UnsupportedError, match="FSDP.* shards the weights"):
        lmsteer.attach(second, {one("output"): 1.0})


class Opaque(torch.nn.Module):
    """Answers for a model in everything but what its forward takes, as many wrappers do."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


def test_a_wrapper_that_nobody_knows_is_steered_whole_or_refused_by_name():
    model = Opaque(build("llama-untied"))
    steer, whole = one("input"), torch.ones_like(IDS, dtype=torch.bool)
    with torch.no_grad():
        wanted = truth(model.inner, steer, 1.5, whole)
        with lmsteer.attach(model, {steer: 1.5}):
            close(model(input_ids=IDS).logits, wanted)
    with pytest.raises(UnsupportedError, match="Opaque does not say what its forward"):
        lmsteer.attach(model, {steer: 1.5}, where="prompt")
    with pytest.raises(UnsupportedError, match="Bare has no input embeddings.*inside it"):
        lmsteer.attach(type("Bare", (torch.nn.Module,), {})(), {steer: 1.5})
