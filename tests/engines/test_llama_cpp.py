"""llama.cpp scores as the hook does: f32 and q8_0 bases, any strength, composed."""

import pytest
import torch
from families import Family
from shapes import LLAMA, build, hooked, prompts, steers_for

import lmsteer
from lmsteer.engines.llama_cpp import Adapters
from lmsteer.errors import ArtefactError, InputError, UnsupportedError
from lmsteer.export.checkpoint import open_checkpoint
from lmsteer.export.gguf import export_gguf

llama_cpp = pytest.importorskip("llama_cpp")
F32 = 0  # ggml's number of the type
MIXES = [
    {},
    {"sentiment": 2.0},
    {"sentiment": -1.3, "detox": 0.7},
    {"detox": -3.0},
    {"sentiment": 1.0, "sentiment.domain": 1.0},
]


def opened(facts, **options):
    """The model in llama.cpp, and its adapters."""
    llm = llama_cpp.Llama(
        facts["base"], n_ctx=128, logits_all=True, type_k=F32, type_v=F32, n_threads=1,
        n_threads_batch=1, verbose=False, flash_attn=False, **options,
    )  # fmt: skip
    return llm, Adapters(llm, facts["steers"])


def scored(llm, tokens):
    llm.reset()
    llm.eval(tokens)
    return torch.log_softmax(torch.tensor(llm.scores[: len(tokens)].copy()).double(), dim=-1)


def named(steers):
    return {s.name: s for steer in steers for s in (steer, steer.domain) if s is not None}


def exported(model, tokenizer, path, precision):
    model.save_pretrained(path / "model")
    tokenizer.save_pretrained(path / "model")
    steers = steers_for(model)
    facts = export_gguf(open_checkpoint(path / "model"), steers, path / "out", base=precision)
    return named(steers), facts


@pytest.mark.parametrize("name", ["Llama, tied", "Llama, untied"])
def test_f32_scores_as_the_hook(name, tokenizer, tmp_path, matrix):
    model = build(name)
    steers, facts = exported(model, tokenizer, tmp_path, "f32")
    llm, adapters = opened(facts)
    worst = 0.0
    for tokens in prompts(100):
        for mix in MIXES:
            adapters.use(mix)
            truth = hooked(model, tokens, {steers[k]: s for k, s in mix.items()})
            worst = max(worst, float((scored(llm, tokens) - truth).abs().max()))
    print(f"llama.cpp f32, {name}: {worst:.2g}")
    assert worst <= 1e-3
    matrix["llama.cpp", f"{name}, f32"] = "within 1e-3, 100 prompts at 5 mixes of strengths"


def test_strengths_change_in_between_without_reading_again(tokenizer, tmp_path, matrix):
    model = build("Llama, tied")
    steers, facts = exported(model, tokenizer, tmp_path, "f32")
    llm, adapters = opened(facts)
    tokens = prompts(1, 40)[0]
    llm.eval(tokens[:-1])  # read at strength 0
    adapters.use({"sentiment": -0.123})
    llm.eval(tokens[-1:])
    last = torch.log_softmax(torch.tensor(llm.scores[len(tokens) - 1]).double(), dim=-1)
    truth = hooked(model, tokens, {steers["sentiment"]: -0.123})[-1]
    assert (last - truth).abs().max() <= 1e-3
    matrix["llama.cpp", "strength changed between tokens"] = "within 1e-3, the cache is kept"
    with pytest.raises(InputError, match="loaded are"):
        adapters.use({"x": 1.0})
    with pytest.raises(InputError, match="finite"):
        adapters.use({"detox": float("nan")})


def test_q8_0_keeps_its_own_accuracy(tokenizer, tmp_path, matrix):
    """Against the hook on the full model: steered is no further off than unsteered, times 1.5."""
    model = build("Llama, tied")
    steers, facts = exported(model, tokenizer, tmp_path, "q8_0")
    # Token by token: builds for AMX processors crash on q8_0 batches, steered or not.
    llm, adapters = opened(facts, n_ubatch=1)
    errors = []
    for mix in MIXES:
        adapters.use(mix)
        fixed = {steers[k]: s for k, s in mix.items()}
        truth = torch.cat([hooked(model, t, fixed) for t in prompts(40)])
        off = torch.cat([scored(llm, t) for t in prompts(40)]) - truth
        spread = truth - truth.mean(dim=1, keepdim=True)
        errors.append(float(off.norm() / spread.norm()))
    print("llama.cpp q8_0, relative error of log-probs at each mix:", errors)
    assert max(errors) <= 1.5 * errors[0]
    matrix["llama.cpp", "Llama, tied, q8_0"] = "error at most 1.5 times the unsteered model's own"


def test_llama_3_frequencies_and_every_precision(tokenizer, tmp_path, matrix):
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    model = Family("LlamaConfig", {**LLAMA, "rope_parameters": rope}).build(tied=True)
    tokens = prompts(1, 90)[0]
    for precision, limit in (("f32", 1e-3), ("f16", 0.05), ("bf16", 0.3)):
        steers, facts = exported(model, tokenizer, tmp_path / precision, precision)
        llm, adapters = opened(facts)
        adapters.use({"detox": 1.0})
        truth = hooked(model, tokens, {steers["detox"]: 1.0})
        assert (scored(llm, tokens) - truth).abs().max() <= limit
    matrix["llama.cpp", "Llama 3.1's rotary frequencies, f32"] = "within 1e-3"


def test_the_bundled_model_reads_text_as_it_does_in_python(tmp_path, matrix):
    model, tokenizer = lmsteer.load_model("bundled")
    steer = lmsteer.load_steer("sentiment", model)
    facts = export_gguf(open_checkpoint("bundled"), [steer], tmp_path / "out", base="f32")
    llm, adapters = opened(facts)
    adapters.use({"sentiment": 2.0})
    for text in ("My life is", "  It's 1,234 well-worn\n\ncafés — isn't it?", "naïve 漢字 :-)"):
        tokens = tokenizer(text)["input_ids"]
        assert llm.tokenize(text.encode(), add_bos=True) == tokens
        truth = hooked(model, tokens, {steer: 2.0})
        assert (scored(llm, tokens) - truth).abs().max() <= 1e-3
    matrix["llama.cpp", "the bundled model, its tokenizer and a shipped steer, f32"] = "within 1e-3"


def test_what_llama_cpp_cannot_take(tokenizer, tmp_path, matrix):
    model = build("Gemma 2")
    model.save_pretrained(tmp_path / "gemma")
    checkpoint = open_checkpoint(tmp_path / "gemma")
    with pytest.raises(UnsupportedError, match="no head of its own"):
        export_gguf(checkpoint, steers_for(model), tmp_path / "x")
    model = build("Qwen 2")  # tied, and not a Llama
    model.save_pretrained(tmp_path / "qwen")
    checkpoint = open_checkpoint(tmp_path / "qwen")
    matrix["llama.cpp", "Gemma"] = "refused at export: its files have no head of their own"
    with pytest.raises(UnsupportedError, match=r"converter takes it.*--untie"):
        export_gguf(checkpoint, steers_for(model), tmp_path / "x")
    alone = export_gguf(checkpoint, steers_for(model), tmp_path / "lora", base=None)
    assert alone["base"] is None
    matrix["llama.cpp", "other architectures' bases"] = (
        "refused at export: use llama.cpp's converter on an untied copy; adapters are written"
    )
    assert sorted(alone["steers"]) == ["detox", "sentiment", "sentiment.domain"]
    _, facts = exported(build("Llama, tied"), tokenizer, tmp_path, "f32")
    llm, _ = opened(facts)
    bundled = open_checkpoint("bundled")
    steer = lmsteer.load_steer("sentiment", bundled.model)
    other = export_gguf(bundled, [steer], tmp_path / "other", base=None)
    with pytest.raises(ArtefactError, match="same architecture"):
        Adapters(llm, other["steers"])
