"""Reading preference files, and holding pairs out."""

import json

import pytest

from esscher.align.preferences import Preferences, read_preferences
from esscher.errors import ConfigError, DataError


@pytest.fixture
def write(tmp_path):
    def made(*lines):
        path = tmp_path / "pairs.jsonl"
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(line + "\n" for line in text), encoding="utf-8")
        return path

    return made


def pair(**columns):
    return {"chosen": "good", "rejected": "bad", **columns}


def numbered(n, prompts=False):
    return Preferences(
        tuple(f"p{i}" for i in range(n)) if prompts else None,
        tuple(f"a{i}" for i in range(n)),
        tuple(f"b{i}" for i in range(n)),
    )


def test_pairs_are_read_in_order_with_or_without_prompts(write):
    got = read_preferences(write(pair(prompt="x: "), "", pair(prompt="", chosen="", score=3)))
    assert got == Preferences(("x: ", ""), ("good", ""), ("bad", "bad"))
    assert read_preferences(write(pair())) == Preferences(None, ("good",), ("bad",))


def test_a_line_separator_inside_a_text_does_not_end_the_line(write):
    line = json.dumps(pair(chosen="one\u2028two"), ensure_ascii=False)
    assert read_preferences(write(line)).chosen == ("one\u2028two",)


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(pair()), encoding="utf-8-sig")
    assert len(read_preferences(path)) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([pair(), {"chosen": "a"}], [":2", "'rejected' is missing", "'chosen'"]),
        ([{"rejected": "a"}], [":1", "'chosen' is missing"]),
        ([{"text": "a"}], ["'chosen' is missing", "columns there: 'text'"]),
        ([pair(chosen=3)], [":1", "'chosen' must be a text, got int"]),
        ([pair(rejected=None)], ["'rejected' must be a text, got NoneType"]),
        ([pair(prompt=7)], ["'prompt' must be a text, got int"]),
        ([pair(), pair(chosen="bad")], [":2", "same text, 'bad'", "remove"]),
        (["{not json"], [":1", "not JSON", "{not json"]),
        (['["a", "b"]'], [":1", "expected an object"]),
        ([], ["no preference pair", "chosen"]),
        (["", "  "], ["no preference pair"]),
        ([pair(), pair(prompt="x")], [":2", "a column 'prompt'", "line 1 has no one"]),
        ([pair(prompt="x"), pair()], [":2", "no column 'prompt'", "line 1 has a one"]),
    ],
)
def test_a_bad_line_is_named_with_what_to_do(write, lines, words):
    path = write(*lines)
    with pytest.raises(DataError) as caught:
        read_preferences(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_a_conversation_is_refused_by_line_and_column(write, column):
    chat = [{"role": "user", "content": "hello"}]
    with pytest.raises(DataError, match=rf":2: column '{column}' is a conversation .* template"):
        read_preferences(write(pair(prompt="x"), pair(prompt="x") | {column: chat}))


def test_an_unreadable_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot read preferences"):
        read_preferences(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"chosen": "\xe9"}')
    with pytest.raises(DataError, match="cannot read preferences"):
        read_preferences(tmp_path / "latin.jsonl")


def test_preferences_in_memory_are_held_to_the_same_rules():
    with pytest.raises(DataError, match=r"pair 1: .* same text"):
        Preferences(None, ("a", "b"), ("c", "b"))
    with pytest.raises(DataError, match="as many prompts"):
        Preferences(("x",), ("a", "b"), ("c", "d"))
    with pytest.raises(DataError, match="no preference pair"):
        Preferences(None, (), ())


def test_a_split_keeps_every_pair_once_and_depends_on_the_seed_alone(no_global_state):
    whole = numbered(200, prompts=True)
    train, held_out = whole.split(0.1, seed=3)
    assert (len(train), len(held_out)) == (180, 20)
    assert sorted(train.chosen + held_out.chosen) == sorted(whole.chosen)
    for part in (train, held_out):
        rows = zip(part.prompts, part.chosen, part.rejected, strict=True)
        assert all(p[1:] == a[1:] == b[1:] for p, a, b in rows)
    assert whole.split(0.1, seed=3) == (train, held_out)
    assert whole.split(0.1, seed=4) != (train, held_out)


def test_the_same_comparison_is_never_on_both_sides():
    once = numbered(40)
    both_ways = Preferences(None, once.chosen + once.rejected, once.rejected + once.chosen)
    train, held_out = both_ways.split(0.25)
    sides = [
        {frozenset(p) for p in zip(s.chosen, s.rejected, strict=True)} for s in (train, held_out)
    ]
    assert not sides[0] & sides[1]
    assert len(held_out) == 20


def test_the_same_texts_after_another_prompt_are_another_comparison():
    many = Preferences(tuple(f"p{i}" for i in range(100)), ("a",) * 100, ("b",) * 100)
    train, held_out = many.split(0.1)
    assert (len(train), len(held_out)) == (90, 10)


def test_identical_pairs_cannot_be_held_out():
    with pytest.raises(DataError, match="all 50 pairs are the same comparison, 'a' against 'b'"):
        Preferences(None, ("a",) * 50, ("b",) * 50).split()
    mirrored = Preferences(None, ("a", "b") * 25, ("b", "a") * 25)
    with pytest.raises(DataError, match="same comparison"):
        mirrored.split()


@pytest.mark.parametrize(("n", "share"), [(50, 0.1), (11, 0.99), (3, 0.5)])
def test_too_few_pairs_on_either_side_are_refused(n, share):
    with pytest.raises(DataError, match="at least 10 must be held out and one must remain"):
        numbered(n).split(share)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5])
def test_a_share_outside_the_unit_interval_is_refused(share):
    with pytest.raises(ConfigError, match=r"held_out must lie in \(0, 1\)"):
        numbered(100).split(share)
