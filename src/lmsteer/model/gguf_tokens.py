"""The tokenizer of a GGUF file.

What transformers makes of these files differs between its versions: 4.57 gives SmolLM2 a token of
beginning that it does not have, and splits the words of Gemma 3 by the wrong algorithm; none splits
digits as SmolLM2 does. So the two common kinds are built here, as the file describes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArtefactError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 splits text before byte-level BPE."""
_QWEN_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_SPACE = "\u2581"


def read_tokenizer(path: Path, header: dict[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer that a GGUF file describes.

    Args:
        path: The file.
        header: What it says of itself.

    Raises:
        ArtefactError: There is no tokenizer in the file, or a damaged one.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    said = {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in header.items()
        if key.startswith("tokenizer.ggml.")
    }
    words = said.get("tokens")
    if not isinstance(words, list) or len(set(words)) < len(words):
        raise ArtefactError(f"{path} describes no tokenizer, or one with a word twice")
    raw = _whole(said)
    if raw is None:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name
        )
        return found
    special = {
        f"{name}_token": words[said[key]]
        for name, key in (
            ("bos", "bos_token_id"),
            ("eos", "eos_token_id"),
            ("unk", "unknown_token_id"),
            ("pad", "padding_token_id"),
        )
        if key in said
    }
    context = header.get(f"{header.get('general.architecture')}.context_length")
    if context is not None:
        special["model_max_length"] = context
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, clean_up_tokenization_spaces=False, **special
    )
    tokenizer.chat_template = header.get("tokenizer.chat_template")
    return tokenizer


def _whole(said: dict[str, Any]) -> Tokenizer | None:
    """The tokenizer with its added words; None for a kind that is not built here."""
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    words, kinds = said["tokens"], said.get("token_type") or []
    if said.get("model") == "gpt2" and "merges" in said:
        raw = _of_bytes(said)
        begins = said.get("pre") == "llama-bpe"
    elif said.get("model") == "llama" and "scores" in said:
        raw = _of_pieces(said)
        begins = True
    else:
        return None
    if raw is None:
        return None
    added = [
        AddedToken(word, special=kind != _USER_DEFINED, normalized=False)
        for word, kind in zip(words, kinds, strict=False)
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) and word.strip(" ")
    ]
    raw.add_tokens([token for token in added if not token.special])
    raw.add_special_tokens([token for token in added if token.special])
    ends = [
        (words[said[f"{end}_token_id"]], said[f"{end}_token_id"])
        if said.get(f"add_{end}_token", end == "bos" and begins) and f"{end}_token_id" in said
        else None
        for end in ("bos", "eos")
    ]
    bos, eos = (end[0] if end else None for end in ends)
    if bos or eos:
        one, other = ([w for w in (bos, f"${x}", eos) if w] for x in "AB")
        other = [f"{part}:1" for part in other]
        raw.post_processor = TemplateProcessing(
            single=one, pair=[*one, *other], special_tokens=[end for end in ends if end]
        )
    return raw


def _of_bytes(said: dict[str, Any]) -> Tokenizer | None:
    """Byte-level BPE, as of GPT-2; None where how it splits text is not known here."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    def by(pattern: str) -> list[Any]:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        return [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]

    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True), plain]
    known: dict[str, list[Any]] = {
        "gpt-2": [plain],
        "smollm": digits,
        "starcoder": digits,
        "llama-bpe": by(LLAMA3_SPLIT),
        "qwen2": by(_QWEN_SPLIT),
    }
    steps = known.get(said.get("pre", ""))
    if steps is None:
        return None
    raw = Tokenizer(
        models.BPE(
            vocab={word: number for number, word in enumerate(said["tokens"])},
            merges=[tuple(merge.split(" ", 1)) for merge in said["merges"]],
            ignore_merges=said["pre"] == "llama-bpe",
        )
    )
    if said["pre"] == "qwen2":
        raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    raw.decoder = decoders.ByteLevel()
    return raw


def _of_pieces(said: dict[str, Any]) -> Tokenizer:
    """BPE of SentencePiece, whose pieces are merged by their scores, as of Llama 2 and Gemma."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    words = said["tokens"]
    # Words of spaces alone are written in these files as text has them, not as the pieces that
    # they are. Merges make them, as they make all other pieces.
    vocab = {word if word.strip(" ") else _SPACE * len(word): i for i, word in enumerate(words)}
    unknown = words[said["unknown_token_id"]] if "unknown_token_id" in said else None
    raw = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=_merges(vocab, said["scores"], said.get("token_type") or [1] * len(words)),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", _SPACE)
    ends = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if said.get("add_space_prefix", True):
        raw.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces])
        ends.append(decoders.Strip(" ", 1, 0))
    else:
        raw.normalizer = spaces
    raw.decoder = decoders.Sequence(ends)
    return raw


def _merges(vocab: dict[str, int], scores: list[float], kinds: list[int]) -> list[tuple[str, str]]:
    """Every way in which two words make a third: the words a user defined, then by their scores."""
    found = []
    for word, number in vocab.items():
        rank = (kinds[number] != _USER_DEFINED, -scores[number], number)
        for cut in range(len(word) - 1, 0, -1):
            left, right = word[:cut], word[cut:]
            if left in vocab and right in vocab:
                found.append((rank, -cut, left, right))
    return [(left, right) for *_, left, right in sorted(found)]
