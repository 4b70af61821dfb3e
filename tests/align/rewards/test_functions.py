"""What a function is called, and what it is the file of."""

import functools

import pytest

from esscher.align.rewards.command import CommandReward
from esscher.align.rewards.deploy import source_version
from esscher.align.rewards.functions import identity_of, values_of
from esscher.errors import DataError
from tests.align.rewards import functions


def test_functions_are_known_by_module_and_name():
    assert identity_of(functions.length) == "tests.align.rewards.functions:length"
    assert identity_of(CommandReward("cat x")) == "command cat x"


def local(items):
    return [1.0 for _ in items]


@pytest.mark.parametrize(
    "function", [lambda items: items, functools.partial(local), functions.Counting()]
)
def test_what_has_no_name_of_its_own_shows_it(function):
    assert "<" in identity_of(function)


def test_errors_of_the_function_come_as_themselves_and_others_as_data_errors():
    with pytest.raises(ValueError, match=r"^no b, please$"):
        values_of(functions.picky, ["b"], None, "picky")
    with pytest.raises(DataError, match="expected 2 numbers"):
        values_of(functions.short, ["a", "b"], None, "short")
    assert values_of(functions.length, ["a"], ["pp"], "length") == [201.0]


def test_a_version_is_of_the_file_that_computes(tmp_path):
    of_file = source_version(functions.length)
    assert source_version(functions.short) == of_file
    assert source_version(functions.Counting()) == of_file
    assert source_version(local) != of_file
    script = tmp_path / "score.py"
    script.write_text("print(1)")
    command = CommandReward(f"cat -n {script}")
    before = source_version(command)
    script.write_text("print(2)")
    assert source_version(command) != before
    assert source_version(CommandReward("cat")) == source_version(len), "neither names a file"
