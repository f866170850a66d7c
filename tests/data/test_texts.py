"""Texts as tokens: padded to each batch, cut, counted, kept; and what token dropout takes from them."""

import numpy as np
import pytest
import torch

from headstart.data.batches import Batches
from headstart.data.module import DataModule
from headstart.data.text_augmentation import TokenDropout
from headstart.data.texts import Texts
from headstart.splits.splitter import Split

PAD, MASK, FIRST, LAST, UNKNOWN = 0, 9, 1, 2, 3


class Letters:
    """Each letter a token between two special ones; counts how often it is asked."""

    identity, pad_id, mask_id, has_types = "letters", PAD, MASK, True
    unknown_id, part = UNKNOWN, "first"

    def __init__(self) -> None:
        self.num_texts = 0

    def encode(self, texts, pairs, max_length):
        self.num_texts += len(texts)
        rows = [[FIRST, *(ord(letter) for letter in text), LAST] for text in texts]
        if pairs is not None:
            rows = [row + [ord(letter) for letter in pair] + [LAST] for row, pair in zip(rows, pairs, strict=True)]
        full = [len(row) for row in rows]
        rows = [row if len(row) <= max_length else [*row[: max_length - 1], LAST] for row in rows]
        special = [[int(token in (FIRST, LAST)) for token in row] for row in rows]
        types = [[int(LAST in row[:place]) for place in range(len(row))] for row in rows]
        return {"ids": rows, "types": types, "special": special, "full": full}


def made(texts=("abc", "z", "hello there", "xy"), pairs=None, max_length=8, fingerprint="one", tokenizer=None):
    return Texts(texts, pairs, fingerprint, tokenizer or Letters(), max_length)


def test_a_batch_is_padded_to_its_own_longest():
    inputs = made().batch([1, 0])
    assert inputs["input_ids"].tolist() == [[FIRST, ord("z"), LAST, PAD, PAD], [FIRST, 97, 98, 99, LAST]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert inputs["masked_ids"].tolist() == [[FIRST, MASK, LAST, PAD, PAD], [FIRST, MASK, MASK, MASK, LAST]]
    assert all(tensor.dtype == torch.int64 for tensor in inputs.values())
    pair = made(["a", "b"], ["xx", "y"], fingerprint="pairs").batch([0, 1])
    assert pair["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]]


def test_what_is_cut_off_is_counted():
    texts = made()
    assert texts.lengths.tolist() == [5, 3, 8, 4]
    statistics = texts.statistics()
    assert statistics["num_tokens"] == 5 + 3 + 13 + 4
    assert statistics["truncation_rate"] == 0.25
    assert statistics["tokens_per_example"]["max"] == 13
    assert statistics["max_length"] == 8
    assert (statistics["num_truncated"], statistics["part"], statistics["unknown_rate"]) == (1, "first", 0.0)


def test_what_is_cut_off_or_unknown_is_said_also_when_it_was_read_before(caplog):
    strange = "ab" + chr(UNKNOWN) * 3 + "cdefghi"
    for _ in range(2):
        caplog.clear()
        texts = made(["hello there", "xy", strange], max_length=13)
        assert texts.statistics()["unknown_rate"] == 3 / (11 + 2 + 11)
        cut, unknown = (record.getMessage() for record in caplog.records)
        assert cut.startswith("data: 1 of 3 texts has more tokens than are read of it (the longest has 14): the fir")
        assert unknown.startswith("data: 12.5% of the tokens are unknown to the tokenizer")
    caplog.clear()
    made(["abc"], max_length=5, fingerprint="short")
    assert not caplog.records


def test_texts_are_tokenised_once_for_each_tokenizer_length_and_data(own_cache):
    tokenizer = Letters()
    first = made(tokenizer=tokenizer).batch([0, 1, 2, 3])
    again = made(tokenizer=tokenizer).batch([0, 1, 2, 3])
    assert tokenizer.num_texts == 4
    assert all(torch.equal(first[name], again[name]) for name in first)
    made(tokenizer=tokenizer, max_length=6)
    made(tokenizer=tokenizer, fingerprint="two")
    tokenizer.identity = "others"
    made(tokenizer=tokenizer)
    assert tokenizer.num_texts == 16
    for kept in (own_cache / "tokens").iterdir():
        kept.write_bytes(b"damaged")
    assert torch.equal(made().batch([2])["input_ids"], first["input_ids"][2:3])


def test_batches_are_made_of_like_lengths():
    rng = np.random.default_rng(0)
    texts = made(["a" * int(n) for n in rng.integers(1, 60, 400)], max_length=64)
    padded = 0
    for draw in Batches(np.arange(400), 16, 0, texts.lengths):
        mask = texts.batch(draw.indices)["attention_mask"]
        padded += int((mask == 0).sum())
    assert padded < 0.05 * texts.lengths.sum()


def test_dropout_hides_words_alone_at_its_rate_and_the_same_ones_whatever_the_batch():
    texts = made(["a" * 40, "b" * 20, "c" * 60], max_length=64)
    dropout = TokenDropout(p=0.3)

    def hidden(batch, place):
        torch.manual_seed(5)
        example = dropout.example({name: values[place] for name, values in batch.items()})
        return example["input_ids"]

    wide, narrow = hidden(texts.batch([1, 2]), 0), hidden(texts.batch([1]), 0)
    assert torch.equal(wide[:22], narrow)
    assert narrow[0] == FIRST
    assert narrow[21] == LAST
    assert (wide[22:] == PAD).all()
    counts = []
    for seed in range(200):
        torch.manual_seed(seed)
        example = dropout.example({name: values[0] for name, values in texts.batch([2]).items()})
        counts.append(int((example["input_ids"] == MASK).sum()))
    assert np.mean(counts) == pytest.approx(0.3 * 60, rel=0.05)
    with_none = TokenDropout(p=0.0).example({name: values[0] for name, values in texts.batch([2]).items()})
    assert torch.equal(with_none["input_ids"], texts.batch([2])["input_ids"][0])


def test_the_data_module_drops_by_seed_epoch_and_example_in_training_only():
    texts = made(["abcdefghijk"] * 40, max_length=16)
    parts = Split(np.arange(20), np.arange(20, 30), np.arange(30, 40))
    labels = np.arange(40) % 2

    def epoch(number, seed=0, workers=0):
        module = DataModule(texts, labels, parts, TokenDropout(p=0.5), 8, seed, workers)
        loader = module.train_dataloader()
        loader.sampler.set_epoch(number)
        return {int(i): row for b in loader for i, row in zip(b["index"], b["inputs"]["input_ids"], strict=True)}

    first, again, later, other = epoch(0), epoch(0), epoch(1), epoch(0, seed=1)
    assert all(torch.equal(first[i], again[i]) for i in first)
    assert any(not torch.equal(first[i], later[i]) for i in first)
    assert any(not torch.equal(first[i], other[i]) for i in first)
    val = next(iter(DataModule(texts, labels, parts, TokenDropout(p=0.5), 8).val_dataloader()))
    assert not (val["inputs"]["input_ids"] == MASK).any()
