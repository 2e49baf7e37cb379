"""GGUF files: what is loaded is what the file holds, at the first load as at later ones."""

import json
import shutil
import struct
import threading
import warnings

import pytest
import torch
from ggufs import small_llama, write_gguf
from tokenizers import pre_tokenizers

import lmsteer
from lmsteer.errors import ArtefactError, InputError, LmsteerWarning, NotFoundError
from lmsteer.model import copied_from, fingerprint, model_folder, takes_long, unpacked
from lmsteer.model.gguf import read_header
from lmsteer.model.gguf_tokens import read_tokenizer

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = ["<end>", "<begin>", *BYTES, "ab", "\u0120a"]
MERGES = ["a b", "\u0120 a"]
TEXT = "ab a ab, \u00e9 12  x"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LMSTEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path, cache):
    """A Llama packed by 4 bits, as files of strangers come."""
    (tmp_path / "given").mkdir()
    path = tmp_path / "given" / "tiny.Q4_1.gguf"
    write_gguf(path, small_llama(), WORDS, MERGES)
    return path


@pytest.fixture
def no_reading(monkeypatch):
    """From now on the file itself may not be unpacked."""

    def stop():
        def fail(path):
            raise AssertionError("unpacked again")

        monkeypatch.setattr(unpacked, "read_gguf", fail)

    return stop


def weights(model):
    return dict(model.state_dict())


def same(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("packing", ["Q4_1", "Q8_0", "F32"])
def test_a_file_loads_as_the_model_that_it_holds(tmp_path, cache, packing):
    path = tmp_path / "tiny.gguf"
    twin = write_gguf(path, small_llama(), WORDS, MERGES, packing)
    assert takes_long(path)
    model, tokenizer = lmsteer.load_model(path)
    assert not takes_long(path)
    assert model.dtype == torch.float32
    assert (model.name_or_path, fingerprint(model).model) == (str(path), "tiny.gguf")
    told = copied_from(model)
    assert (told["file"], told["packing"]) == ("tiny.gguf", packing)
    found, wanted = weights(model), weights(twin)
    assert found.keys() == wanted.keys()
    for key in found:  # the copy is in float16, and the numbers are exact but for that
        torch.testing.assert_close(found[key], wanted[key].half().float(), rtol=0, atol=0)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    difference = (model(ids).logits - twin(ids).logits).abs().max()
    assert difference < 2e-3 * twin(ids).logits.abs().max()
    assert same(model, lmsteer.load_model(path)[0])


def test_the_tokens_are_those_of_the_file(file):
    _, tokenizer = lmsteer.load_model(file)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(TEXT)["input_ids"])
    assert pieces[:5] == ["ab", "\u0120a", "\u0120", "ab", ","]  # "a b" is merged before " a"
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT
    assert (tokenizer.eos_token, tokenizer.bos_token) == ("<end>", "<begin>")
    assert tokenizer("<end>a")["input_ids"] == [0, WORDS.index("a")]
    assert tokenizer.model_max_length == 64


def test_a_steer_of_the_copy_fits_the_original(file, tmp_path):
    """By fingerprint: 4 bits move the sketch of a table by less than checks allow."""
    copy, _ = lmsteer.load_model(file)
    original = small_llama()
    assert fingerprint(copy).similarity(fingerprint(original)) > 0.99
    torch.manual_seed(1)
    steer = lmsteer.Steer(
        torch.randn(64, 2), torch.randn(64, 2), "mood", fingerprint=fingerprint(copy)
    )
    with lmsteer.attach(original, {steer: 1.0}):
        pass


def test_later_loads_read_the_copy_alone(file, cache, no_reading):
    first, tokenizer = lmsteer.load_model(file)
    no_reading()
    later, again = lmsteer.load_model(file)
    assert same(first, later)
    assert again(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert (model_folder(file) / "model.safetensors").is_file()
    moved = shutil.copy(file, file.with_name("renamed.gguf"))
    assert same(first, lmsteer.load_model(moved)[0])  # it goes by what the file holds
    config = json.loads((model_folder(file) / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert lmsteer.load_model(file, dtype="auto")[0].dtype == torch.bfloat16


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "no mark", "another format", "newer"])
def test_a_damaged_copy_is_made_again(file, harm):
    first, _ = lmsteer.load_model(file)
    folder = model_folder(file)
    tensors, mark = folder / "model.safetensors", folder.with_suffix(".json")
    blob, told = tensors.read_bytes(), json.loads(mark.read_text())
    if harm == "flip":
        tensors.write_bytes(blob[:-5] + bytes([blob[-5] ^ 1]) + blob[-4:])
    elif harm == "cut":
        tensors.write_bytes(blob[:1000])
    elif harm == "gone":
        (folder / "tokenizer.json").unlink()
    elif harm == "no mark":
        mark.unlink()
    elif harm == "another format":
        mark.write_text(json.dumps({**told, "format": 0}))
    else:  # what a later transformers wrote, this one may misread
        mark.write_text(json.dumps({**told, "transformers": "99.0"}))
    again, tokenizer = lmsteer.load_model(file)
    assert same(first, again)
    assert tokenizer("ab")["input_ids"] == [WORDS.index("ab")]
    assert tensors.read_bytes() == blob
    assert json.loads(mark.read_text()) == told


def test_what_killed_processes_left_is_removed(file, cache):
    first, _ = lmsteer.load_model(file)
    folder = model_folder(file)
    left = folder.with_name(f"{folder.name}.new-1234")
    shutil.copytree(folder, left)
    shutil.rmtree(folder)
    assert same(first, lmsteer.load_model(file)[0])
    assert not left.exists()
    assert not list(folder.parent.glob("*.new-*"))


def test_two_at_once_unpack_once(file, monkeypatch):
    reads, plain = [], unpacked.read_gguf

    def counted(path):
        reads.append(path)
        return plain(path)

    monkeypatch.setattr(unpacked, "read_gguf", counted)
    found = []
    threads = [threading.Thread(target=lambda: found.append(model_folder(file))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1
    assert len(found) == 3


@pytest.mark.parametrize("fault", ["not a folder", "full", "full while writing"])
def test_without_a_cache_the_model_is_the_same(file, tmp_path, monkeypatch, fault):
    first, tokenizer = lmsteer.load_model(file)
    monkeypatch.setenv("LMSTEER_CACHE", str(tmp_path / "other"))
    if fault == "not a folder":
        (tmp_path / "other").write_text("")
    elif fault == "full":
        usage = shutil._ntuple_diskusage(10, 9, 1)
        monkeypatch.setattr(unpacked.shutil, "disk_usage", lambda path: usage)
    else:

        def full(*given):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(unpacked, "_write", full)
    with pytest.warns(LmsteerWarning, match="LMSTEER_CACHE") as told:
        again, other = lmsteer.load_model(file)
    assert len(told) == 1
    assert same(first, again)
    assert again.name_or_path == str(file)
    assert copied_from(again) == copied_from(first)
    assert other(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert not list(tmp_path.glob("other/models/*.new-*"))
    with pytest.warns(LmsteerWarning), pytest.raises(InputError, match="LMSTEER_CACHE"):
        model_folder(file)


def test_a_folder_with_a_gguf_file(file):
    assert lmsteer.load_model(file.parent)[0].name_or_path == str(file)
    shutil.copy(file, file.with_name("mmproj-tiny.gguf"))  # of a model that sees
    assert takes_long(file.parent) is False
    shutil.copy(file, file.with_name("other.gguf"))
    with pytest.raises(InputError, match=r"several GGUF files \(other.gguf, tiny"):
        lmsteer.load_model(file.parent)


def test_a_folder_with_safetensors_is_not_unpacked(folder, file, cache):
    shutil.copy(file, folder)
    assert lmsteer.load_model(folder)[0].config.hidden_size == 32
    assert not cache.exists()


def test_files_that_are_none(tmp_path, cache):
    with pytest.raises(NotFoundError, match="there is no file"):
        lmsteer.load_model(tmp_path / "none.gguf")
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "text.gguf").write_text("version https://git-lfs.github.com/spec/v1")
    for name in ("empty", "text"):
        with pytest.raises(ArtefactError, match="not a GGUF file"):
            lmsteer.load_model(tmp_path / f"{name}.gguf")


def test_a_header_that_is_cut_anywhere_is_told(file, tmp_path):
    blob = file.read_bytes()
    path = tmp_path / "cut.gguf"
    end = blob.index(b"token_embd.weight") - 9
    for size in (*range(1, 400, 7), *range(400, end, 211), end):
        path.write_bytes(blob[:size])
        with pytest.raises(ArtefactError, match="not a GGUF file, or damaged"):
            read_header(path)
    path.write_bytes(blob[:-3000])
    with pytest.raises(lmsteer.LmsteerError):
        lmsteer.load_model(path)


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("<IQQ", 1, 0, 0),
        struct.pack("<IQQ", 3, 0, 1 << 60),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sI", 1, b"a", 77),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"a", 9, 8, 1 << 61),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"a", 9, 12, 1 << 61),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"a", 9, 9, 1),
    ],
)
def test_forged_headers_ask_for_no_memory(tmp_path, tail):
    path = tmp_path / "forged.gguf"
    path.write_bytes(b"GGUF" + tail)
    with pytest.raises(ArtefactError, match="not a GGUF file, or damaged"):
        read_header(path)


def test_a_file_that_lacks_weights_is_refused(tmp_path, cache):
    """transformers would fill them with random numbers, and say so in a note alone."""
    path = tmp_path / "tiny.gguf"
    write_gguf(path, small_llama(), WORDS, MERGES)
    blob = path.read_bytes()
    key = b"llama.block_count" + struct.pack("<I", 4)
    at = blob.index(key) + len(key)
    path.write_bytes(blob[:at] + struct.pack("<I", 3) + blob[at + 4 :])
    with pytest.raises(ArtefactError, match="lacks weights of the model: model.layers.2"):
        lmsteer.load_model(path)


def test_digits_are_split_where_the_file_says_so(tmp_path, cache):
    path = tmp_path / "tiny.gguf"
    words = [*WORDS[:-1], "12"]
    for pre, pieces in (("smollm", ["1", "2"]), ("gpt-2", ["12"])):
        write_gguf(path, small_llama(), words, ["1 2"], pre=pre)
        tokenizer = read_tokenizer(path, read_header(path))
        assert tokenizer.convert_ids_to_tokens(tokenizer("12")["input_ids"]) == pieces


def test_a_token_of_beginning_only_where_the_file_says_so(tmp_path, cache):
    path = tmp_path / "tiny.gguf"
    for fields, ids in (({}, [18]), ({"add_add_bos_token": True}, [1, 18])):
        write_gguf(path, small_llama(), [*WORDS], MERGES, **fields)
        tokenizer = read_tokenizer(path, read_header(path))
        assert tokenizer(WORDS[18])["input_ids"] == ids


def spm(words, scores, kinds, **more):
    return {
        f"tokenizer.ggml.{key}": value
        for key, value in {
            "model": "llama",
            "tokens": words,
            "scores": scores,
            "token_type": kinds,
            "bos_token_id": 1,
            "unknown_token_id": 0,
            **more,
        }.items()
    }


def test_pieces_are_merged_by_their_scores(tmp_path):
    """As of SentencePiece: the best pair first, wherever it stands; by hand on a few words."""
    pieces = ["\u2581", "a", "b", "c", "ab", "bc", "\u2581a", "cab", "  "]
    scores = [-10, -11, -12, -13, -2, -1, -3, -4, -1000]
    words = ["<unk>", "<s>", *pieces, *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [2, 3, *[1] * (len(pieces) - 1), 4, *[6] * 256]
    header = spm(words, [0, 0, *scores, *[0] * 256], kinds, add_space_prefix=False)
    tokenizer = read_tokenizer(tmp_path, header)

    def read(text):
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])

    assert read("abc") == ["<s>", "a", "bc"]  # "bc" is better than "ab"; "a" + "bc" is no word
    assert read("a ab") == ["<s>", "a", "\u2581", "ab"]
    assert read("a  a")[1:3] == ["a", "\u2581\u2581"]  # what a user defined comes first
    assert read("\u00e9") == ["<s>", "<0xC3>", "<0xA9>"]
    for text in ("abc", " a  b", "\u00e9"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    prefixed = read_tokenizer(tmp_path, spm(words, [0, 0, *scores, *[0] * 256], kinds))
    ids = prefixed("a")["input_ids"]
    assert prefixed.convert_ids_to_tokens(ids) == ["<s>", "\u2581a"]
    assert prefixed.decode(ids, skip_special_tokens=True) == "a"


@pytest.mark.parametrize(
    "name", ["", "../nothing", "smollm2/../..", "\x1b[31m", "a" * 5000, "a\0b", "smollm2\n"]
)
def test_hostile_names_are_only_not_found(name, cache):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(NotFoundError):
            lmsteer.load_model(name)
        with pytest.raises(NotFoundError):
            model_folder(name)
