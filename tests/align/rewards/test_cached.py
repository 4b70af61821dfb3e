"""What was computed once is not computed again, whatever happens to process or file."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esscher.align.rewards.cached import CachedReward
from esscher.align.rewards.command import CommandReward
from esscher.align.rewards.pooled import PooledReward
from esscher.core import Reward, Target
from esscher.errors import ConfigError, DataError, NumericsError, WorkerError
from esscher.kit.scale.ledger import Ledger
from esscher.kit.scale.pool import open_pool
from tests.align import worlds
from tests.align.rewards import functions


def test_only_what_is_new_and_distinct_is_computed():
    inner = functions.Counting()
    cached = CachedReward(inner)
    assert cached(["a", "bb", "a"]) == [1.0, 2.0, 1.0]
    assert cached(["bb", "ccc", "ccc", "a"]) == [2.0, 3.0, 3.0, 1.0]
    assert inner.asked == ["a", "bb", "ccc"]
    assert len(cached) == 3


def test_a_prompt_is_part_of_the_question():
    inner = functions.Counting()
    cached = CachedReward(inner)
    assert cached(["a", "a", "a"], ["p", "pp", "p"]) == [101.0, 201.0, 101.0]
    assert cached(["a"]) == [1.0]
    assert inner.asked == ["a", "a", "a"]


@given(
    st.lists(
        st.lists(st.tuples(st.text("ab", max_size=2), st.text("p", max_size=2)), max_size=6),
        max_size=6,
    ),
    st.integers(1, 4),
)
def test_values_are_those_of_the_function_at_any_size(calls, size):
    cached = CachedReward(functions.Counting(), size=size)
    for rows in calls:
        items, prompts = [x for x, _ in rows], [p for _, p in rows]
        assert cached(items, prompts) == functions.length(items, prompts)
        assert len(cached) <= size


def test_the_least_recently_used_goes_first():
    inner = functions.Counting()
    cached = CachedReward(inner, size=2)
    cached(["a", "b"])
    cached(["a"])
    cached(["c"])
    cached(["a", "c"])
    assert inner.asked == ["a", "b", "c"]
    cached(["b"])
    assert inner.asked == ["a", "b", "c", "b"]


def test_the_posterior_does_not_change():
    cached = Reward(CachedReward(worlds.toy_reward), beta=worlds.BETA)
    target = Target(worlds.prior(), cached)
    for _ in range(2):
        assert torch.equal(target.table().log_probs, worlds.posterior())


def test_a_file_serves_the_next_process_exactly(tmp_path):
    path = tmp_path / "deep" / "rewards.jsonl"
    texts = [f"{i}" for i in range(50)]

    def tenth(items):
        return [-float("inf") if x == "7" else float(x) / 10 for x in items]

    first = CachedReward(tenth, path=path, version="1")(texts)
    again = CachedReward(refuse, path=path, version="1")
    again._scope = CachedReward(tenth, version="1")._scope
    assert again(texts) == first == tenth(texts)


def refuse(items):
    raise AssertionError(f"{items} was asked again")


def test_a_file_tells_functions_and_versions_apart(tmp_path):
    path = tmp_path / "rewards.jsonl"
    assert CachedReward(functions.plain_length, path=path)(["abc"]) == [3.0]
    assert CachedReward(functions.sizes, path=path)(["abc"]) == [1.0]
    for version, asked in (("1", 1), ("2", 1), ("1", 0)):
        inner = functions.Counting()
        assert CachedReward(inner, path=path, version=version)(["abc"]) == [3.0]
        assert len(inner.asked) == asked


def test_two_that_share_a_file_see_each_others_rewards(tmp_path):
    path = tmp_path / "rewards.jsonl"
    one, two = functions.Counting(), functions.Counting()
    first = CachedReward(one, path=path, version="1")
    second = CachedReward(two, path=path, version="1")
    first(["a"])
    second(["a", "b"])
    first(["b", "c"])
    assert (one.asked, two.asked) == (["a", "c"], ["b"])
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("function", [lambda xs: [1.0 for _ in xs], functions.Counting()])
def test_a_file_needs_a_name_or_a_version(tmp_path, function):
    with pytest.raises(ConfigError, match="pass a version"):
        CachedReward(function, path=tmp_path / "rewards.jsonl")
    CachedReward(function, path=tmp_path / "rewards.jsonl", version="3")


def test_a_torn_last_row_is_dropped_with_a_warning(tmp_path):
    path = tmp_path / "rewards.jsonl"
    CachedReward(functions.plain_length, path=path)(["a", "bb", "ccc"])
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        path.write_bytes(whole[:-cut])
        with pytest.warns(UserWarning, match=r"rewards.jsonl: the last row was cut off"):
            cached = CachedReward(functions.plain_length, path=path)
        assert len(cached) == 2
        assert cached(["ccc", "a", "bb"]) == [3.0, 1.0, 2.0]
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    ['{"prompt": "a"}\n', "text\n", '{"key": "a"}\n', "text without an end", "[1, 2]\n", "\x00\n"],
)
def test_a_file_that_is_no_cache_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match="these are no remembered values"):
        CachedReward(functions.length, path=path)
    assert path.read_text() == content


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot keep values in"):
        CachedReward(functions.length, path=tmp_path)


def test_a_file_emptied_by_hand_is_begun_anew(tmp_path):
    path = tmp_path / "rewards.jsonl"
    cached = CachedReward(functions.plain_length, path=path)
    cached(["a"])
    path.unlink()
    cached(["bb"])
    assert list(Ledger(path).read().values()) == [2.0]


@pytest.mark.parametrize(
    ("name", "kind"), [("short", DataError), ("nan_on_b", NumericsError), ("picky", ValueError)]
)
def test_what_fails_is_raised_as_itself_and_not_kept(tmp_path, name, kind):
    path = tmp_path / "rewards.jsonl"
    cached = CachedReward(getattr(functions, name), path=path)
    for _ in range(2):
        with pytest.raises(kind) as caught:
            cached(["a", "b"])
        assert type(caught.value) is kind
    assert len(cached) == 0
    assert not path.exists()


def test_items_without_a_json_form_are_named():
    with pytest.raises(DataError, match="JSON form, got <object"):
        CachedReward(functions.length)([object()])


def test_a_cache_holds_at_least_one():
    with pytest.raises(ConfigError, match="size >= 1, got 0"):
        CachedReward(functions.length, size=0)


def test_cache_over_pool_over_program(tmp_path):
    """The whole stack: order, prompts, one computation each, and errors that come through it."""
    asked = tmp_path / "asked"
    head, loop, body = functions.LENGTH.partition("    row = json.loads(line)\n")
    head = head.replace("import json, sys", "import json, os, sys")
    pid = tmp_path / "pid"
    note = f"    open({str(asked)!r}, 'a').write(row['text'] + '\\n')\n"
    note += f"    open({str(pid)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    death = "    if row['text'] == 'bad': sys.exit(5)\n"
    command = functions.program(tmp_path, head + loop + note + death + body)
    texts = ["ccc", "a", "bb", "a", "ccc"]
    prompts = ["p", "", "pp", "", "p"]
    path = tmp_path / "rewards.jsonl"
    with open_pool("processes:1") as pool:
        stack = CachedReward(PooledReward(CommandReward(command), pool, batch=1), path=path)
        for _ in range(2):
            assert stack(texts, prompts) == functions.length(texts, prompts)
        assert sorted(asked.read_text().split()) == ["a", "bb", "ccc"]
        assert len(set(pid.read_text().split())) == 1, "one program for all batches of a worker"
        with pytest.raises(WorkerError, match=r"item 0 of 1, 'bad'.*exit code 5"):
            stack(["dddd", "bad"])
    assert CachedReward(CommandReward(command), path=path)(texts, prompts) == functions.length(
        texts, prompts
    )
    assert sorted(asked.read_text().split()) == ["a", "bad", "bad", "bad", "bb", "ccc", "dddd"]
