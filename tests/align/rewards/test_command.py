"""Programs as rewards: the same numbers as a function, and errors that say whose fault it is."""

import math
import os
import pickle
import shlex
import signal
import threading
import time

import pytest
import torch

from esscher.align.rewards.command import CommandReward
from esscher.core import Reward, Target
from esscher.errors import ConfigError, DataError, NumericsError, WorkerError, WorkerTimeoutError
from esscher.kit.scale.pool import open_pool
from tests.align import worlds
from tests.align.rewards import functions
from tests.kit.scale.functions import who
from tests.kit.scale.watching import alive, wait_for

TEXTS = ["a", "bb", "", "ünï\n\tcode \ud800 \x00", "a" * 5000]
SHELL = "while read -r line; do case $line in *bad*) %s;; *) echo 1;; esac; done"
"""Answers 1, and does something else for a bad item."""
LOOP = "import json, sys\nfor line in sys.stdin:\n    text = json.loads(line)['text']\n"


def test_a_program_gives_the_numbers_of_the_function_it_copies(tmp_path):
    reward = CommandReward(functions.program(tmp_path, functions.LENGTH))
    assert reward(TEXTS) == functions.length(TEXTS)
    prompts = ["p" * i for i in range(len(TEXTS))]
    assert reward(TEXTS, prompts) == functions.length(TEXTS, prompts)
    assert reward([]) == []
    reward.close()


def test_the_posterior_of_a_program_is_that_of_the_function(tmp_path):
    """On the enumerable world, whose items are lists of token ids."""
    source = LOOP + (
        "    pairs = sum(a == 0 and b == 1 for a, b in zip(text, text[1:]))\n"
        "    print(pairs + 0.5 * (2 in text) - 0.25 * len(text) / 5)\n"
    )
    reward = CommandReward(functions.program(tmp_path, source))
    target = Target(worlds.prior(), Reward(reward, beta=worlds.BETA))
    assert torch.allclose(target.table().log_probs, worlds.posterior(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("answer", "value"),
    [("1.5", 1.5), ("-3", -3.0), ("true", 1.0), ("-Infinity", -math.inf), ('{"reward": 2}', 2.0)],
)
def test_an_answer_is_a_number_or_an_object_with_one(answer, value):
    reward = CommandReward(shlex.join(["sh", "-c", SHELL % f"echo '{answer}'"]))
    assert reward(["bad", "bad"]) == [value, value]
    reward.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("one", DataError),
        ("", DataError),
        ("null", DataError),
        ('"1.5"', DataError),
        ("[1.5]", DataError),
        ('{"score": 2}', DataError),
        ('{"reward": "high"}', DataError),
        ("9" * 400, DataError),
        ("NaN", NumericsError),
        ('{"reward": NaN}', NumericsError),
        ("Infinity", NumericsError),
    ],
)
def test_other_answers_are_errors_that_name_command_item_and_answer(answer, kind):
    script = "echo scoring >&2; " + SHELL % f"echo '{answer}'"
    command = shlex.join(["sh", "-c", script])
    reward = CommandReward(command)
    with pytest.raises(kind) as caught:
        reward(["good", "bad", "ugly"])
    message = str(caught.value)
    assert repr(command) in message
    assert "item 1 of 3, 'bad'" in message
    assert answer[:20].replace("NaN", "nan") in message or kind is NumericsError
    assert "standard error ends with:\nscoring" in message
    assert reward(["good"]) == [1.0], "the next call starts it afresh"
    reward.close()


def test_nan_of_a_program_is_never_ruled_out():
    reward = CommandReward(shlex.join(["sh", "-c", SHELL % "echo NaN"]))
    for on_error in ("raise", "worst"):
        with pytest.raises(NumericsError, match="'bad'"):
            Reward(reward, on_error=on_error).log_weight(["good", "bad"], None)


def test_it_is_one_process_for_all_calls(tmp_path):
    source = "import os, sys\nfor line in sys.stdin:\n    print(os.getpid())\n"
    reward = CommandReward(functions.program(tmp_path, source))
    found = {*reward(["a", "b"]), *reward(["c"])}
    assert len(found) == 1
    (pid,) = map(int, found)
    assert alive(pid)
    del reward
    assert not alive(pid)


def test_a_program_that_dies_is_sent_the_unanswered_items_again(tmp_path):
    """It dies on every second item: five items need three lives, and none is lost."""
    source = (
        "import json, sys\nfor n, line in enumerate(sys.stdin):\n"
        "    if n == 2:\n        sys.exit(1)\n    print(len(json.loads(line)['text']))\n"
    )
    reward = CommandReward(functions.program(tmp_path, source))
    assert reward(["a", "bb", "ccc", "dddd", "eeeee"]) == [1, 2, 3, 4, 5]
    reward.close()


def test_a_program_killed_at_work_loses_nothing(tmp_path):
    mark = tmp_path / "pid"
    source = LOOP + (
        "    import os, pathlib, time\n"
        f"    mark = pathlib.Path({str(mark)!r})\n"
        "    if text == 'ccc' and not mark.exists():\n"
        "        mark.with_suffix('.tmp').write_text(str(os.getpid()))\n"
        "        mark.with_suffix('.tmp').rename(mark)\n"
        "        time.sleep(60)\n"
        "    print(len(text))\n"
    )

    def kill():
        assert wait_for(mark.exists)
        os.kill(int(mark.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    reward = CommandReward(functions.program(tmp_path, source))
    assert reward(["a", "bb", "ccc", "dddd"]) == [1, 2, 3, 4]
    killer.join()
    reward.close()


@pytest.mark.parametrize("retries", [0, 1])
def test_a_program_that_dies_on_an_item_is_given_up_with_what_it_said(tmp_path, retries):
    count = tmp_path / "count"
    source = f"open({str(count)!r}, 'a').write('x')\n" + LOOP
    source += "    print(1 / (text != 'bad'))\n"
    reward = CommandReward(functions.program(tmp_path, source), retries=retries)
    with pytest.raises(WorkerError, match="ended with exit code 1") as caught:
        reward(["good", "bad", "ugly"])
    message = str(caught.value)
    assert "item 1 of 3, 'bad'" in message
    assert "had answered 1 of 3 items" in message
    assert message.endswith("ZeroDivisionError: division by zero")
    assert count.read_text() == "x" * (1 + retries)


def test_a_program_that_prints_too_little_is_given_up(tmp_path):
    source = "import sys\nlines = sys.stdin.readline()\nprint(1)\n"
    reward = CommandReward(functions.program(tmp_path, "import sys\nsys.stdin.readline()\n"))
    with pytest.raises(WorkerError, match="exit code 0 without an answer, 3 times in all"):
        reward(["a", "b"])
    one_each = CommandReward(functions.program(tmp_path, source))
    assert one_each(["a", "b", "c"]) == [1, 1, 1], "one answer per life is slow, not wrong"
    one_each.close()


def test_a_program_that_prints_too_much_is_refused(tmp_path):
    source = "import sys\nfor line in sys.stdin:\n    print('scoring')\n    print(1)\n"
    with pytest.raises(DataError, match=r"expected a number .* got 'scoring'"):
        CommandReward(functions.program(tmp_path, source))(["a"])
    doubled = "import sys\nfor line in sys.stdin:\n    print(1)\n    print(1)\n"
    with pytest.raises(DataError, match="more than one line per item"):
        CommandReward(functions.program(tmp_path, doubled))(["a", "b"])


def test_a_program_that_hangs_is_stopped_at_the_timeout():
    reward = CommandReward(shlex.join(["sh", "-c", SHELL % "sleep 60"]), timeout=0.4)
    with pytest.raises(WorkerTimeoutError, match=r"item 2 of 3, 'bad'.*timeout of 0.4 s.*flush"):
        reward(["good", "good", "bad"])
    weights = Reward(reward, on_error="worst")
    with pytest.warns(UserWarning, match="raised on 1 of 2 items"):
        assert weights.log_weight(["good", "bad"], None).tolist() == [1.0, -math.inf]
    reward.close()


def test_answers_that_came_late_are_not_those_of_the_next_call():
    reward = CommandReward(shlex.join(["sh", "-c", SHELL % "sleep 0.6; echo 7"]), timeout=0.4)
    with pytest.raises(WorkerTimeoutError):
        reward(["bad"])
    time.sleep(0.3)
    assert reward(["good"]) == [1.0]
    reward.close()


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_bad_settings_are_refused(timeout):
    with pytest.raises(ConfigError, match="above 0"):
        CommandReward("cat", timeout=timeout)


def test_a_command_that_does_not_exist_is_refused_at_once():
    with pytest.raises(ConfigError, match="no program 'no-such-scorer'"):
        CommandReward("no-such-scorer --fast")


def test_items_without_a_json_form_are_named():
    with pytest.raises(DataError, match="JSON form, got <object"):
        CommandReward("cat")([object()])


def test_it_is_pickled_as_its_settings_and_loads_no_torch(tmp_path):
    reward = CommandReward(functions.program(tmp_path, functions.LENGTH), timeout=9.0, retries=5)
    reward(["a"])
    again = pickle.loads(pickle.dumps(reward))
    assert (again.command, again.timeout, again.retries) == (reward.command, 9.0, 5)
    assert again(["abc"]) == [3.0]
    with open_pool("processes:1") as pool:
        pool.map(reward, [["a"]])
        ((_, _, torch_is_loaded),) = pool.map(who, [0])
    assert not torch_is_loaded
    for one in (reward, again):
        one.close()
