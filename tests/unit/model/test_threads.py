"""Two threads on one model: their strengths never mix."""

import threading

import pytest
import torch

import lmsteer
from lmsteer.errors import InputError
from lmsteer.states.hidden import read_states


def in_thread(function):
    """Run it in another thread and hand back what it raised or returned."""
    found = []

    def run():
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_generations_of_two_threads_are_those_of_each_alone(llama, tokenizer, steer):
    options = {"samples": 4, "max_new_tokens": 12, "batch_size": 2}

    def write(strength):
        records = lmsteer.generate(
            llama, tokenizer, "it is", strengths={steer: strength}, **options
        )
        return [record.text for record in records]

    alone = {strength: write(strength) for strength in (-2.0, 0.0, 2.0)}
    found = {strength: [] for strength in alone}

    def work(strength):
        for _ in range(5):
            found[strength].append(write(strength))

    threads = [threading.Thread(target=work, args=(strength,)) for strength in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for strength, texts in found.items():
        assert texts == [alone[strength]] * 5
    assert alone[-2.0] != alone[2.0]


def test_attaching_beside_another_threads_steers_is_refused(llama, tokenizer, steer):
    with lmsteer.attach(llama, {steer: 1.0}):
        error = in_thread(lambda: lmsteer.attach(llama, {steer: 2.0}))
        assert isinstance(error, InputError)
        assert "another thread" in str(error)
        # What the first thread attached still works, also when another thread runs the model.
        assert not isinstance(
            in_thread(lambda: llama(**tokenizer("a", return_tensors="pt"))), Error
        )
    assert not isinstance(in_thread(lambda: lmsteer.attach(llama, {steer: 2.0}).detach()), Error)


Error = BaseException


def test_reading_states_does_not_stop_another_threads_forward(llama, tokenizer, examples):
    from lmsteer.text.encoding import encode

    encoded = encode(tokenizer, examples, max_length=64)
    stop = threading.Event()
    errors = []

    def forward():
        given = tokenizer("it is", return_tensors="pt")
        while not stop.is_set():
            try:
                llama(**given)
            except BaseException as error:
                errors.append(error)
                return

    thread = threading.Thread(target=forward)
    thread.start()
    for _ in range(5):
        read_states(llama, encoded)
    stop.set()
    thread.join()
    assert not errors


def test_a_steer_left_by_a_dead_thread_does_not_block(llama, steer):
    left = in_thread(lambda: lmsteer.attach(llama, {steer: 1.0}))
    with lmsteer.attach(llama, {steer: 1.0}):
        pass
    left.detach()
    with pytest.raises(InputError, match="finite"):
        lmsteer.attach(llama, {steer: float("inf")})


def test_the_rows_told_are_those_of_ones_own_thread(llama, tokenizer, steer):
    from lmsteer.model.reading import base_rows, read_hidden

    given = tokenizer("it is", return_tensors="pt")
    with lmsteer.attach(llama, {steer: 3.0}), base_rows(llama) as rows:
        llama(**given)
        in_thread(lambda: llama(**tokenizer("what else", return_tensors="pt")))
        assert torch.equal(rows(), read_hidden(llama, **given))
