"""Every text comes back from its ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esscher.errors import ConfigError, DataError
from esscher.kit.lm.tokenizer import END, END_TEXT, BytePairTokenizer

TOKENIZER = BytePairTokenizer.train(["def f(x):\n    return x"] * 5 + ["größer <|end|>"] * 9, 300)


@given(st.lists(st.text(), max_size=5))
def test_any_text_round_trips(texts):
    ids = TOKENIZER.encode(texts)
    assert TOKENIZER.decode(ids) == texts
    assert all(0 < i < TOKENIZER.vocab_size for row in ids for i in row)


@pytest.mark.parametrize(
    "text", [END_TEXT, f"a{END_TEXT}b", "<|end|>", "\x00", "", "🙂\u200d\ufffd"]
)
def test_awkward_texts_round_trip_without_the_end_token(text):
    assert END not in TOKENIZER.encode([text])[0]
    assert TOKENIZER.decode(TOKENIZER.encode([text])) == [text]


def test_merges_shorten_and_survive_json():
    again = BytePairTokenizer.from_json(TOKENIZER.to_json())
    text = f"def f(größer): {END_TEXT}"
    assert again.encode([text]) == TOKENIZER.encode([text])
    assert again.vocab_size == TOKENIZER.vocab_size > 280
    assert len(TOKENIZER.encode(["return x"])[0]) < len("return x")


def test_training_is_deterministic():
    texts = [f"def f{i}(a, b): return a + {i}" for i in range(50)]
    first, second = (BytePairTokenizer.train(texts, 320).to_json() for _ in range(2))
    assert first == second


def test_broken_utf8_becomes_the_replacement_character():
    (euro,) = BytePairTokenizer.train([], 257).encode(["€"])
    assert len(euro) == 3
    assert set(TOKENIZER.decode([euro[:2], euro[1:]])[0]) == {"\ufffd"}


def test_the_end_token_is_not_text():
    assert TOKENIZER.decode([[END], [END, *TOKENIZER.encode(["a"])[0], END]]) == ["", "a"]


def test_what_cannot_be_encoded_is_named():
    with pytest.raises(DataError, match="text 1 holds lone surrogates"):
        TOKENIZER.encode(["a", "b\udcff"])
    with pytest.raises(DataError, match="text 0 is a NoneType"):
        TOKENIZER.encode([None])


def test_a_vocabulary_needs_all_bytes_and_the_end():
    assert BytePairTokenizer.train(["a"], 257).vocab_size == 257
    with pytest.raises(ConfigError, match="at least 257"):
        BytePairTokenizer.train(["a"], 256)
