"""Talking to a program line by line."""

import os
import sys
import time

import pytest

from esscher.errors import ConfigError
from esscher.kit.scale import lines
from esscher.kit.scale.lines import LineProgram, arguments_of
from tests.kit.scale.watching import alive, wait_for

ECHO = "import sys\nfor line in sys.stdin:\n    print(line.strip())\n"


SAY = "echo $x"


def program(source):
    return LineProgram([sys.executable, "-c", source])


def shell(script):
    return LineProgram(["sh", "-c", script])


def test_every_line_gets_its_answer_also_when_pipes_fill_up():
    """Megabytes both ways: reading and writing take turns, or both sides would wait."""
    sent = [f"{i} " + "x" * 300 for i in range(10_000)]
    one = program(ECHO)
    assert one.ask(sent, 30.0) == (sent, "")
    assert one.ask(["again", ""], 30.0) == (["again", ""], "")
    one.close()


def test_a_lone_program_is_ended_with_its_last_reference():
    one = program("import os, sys\nfor line in sys.stdin:\n    print(os.getpid())\n")
    ((pid,), _) = one.ask(["who"], 30.0)
    assert alive(pid)
    del one
    assert not alive(pid)


def test_closing_ends_what_the_program_started(monkeypatch):
    monkeypatch.setattr(lines, "GRACE", 0.2)
    one = shell("trap '' TERM; read -r x; sleep 60 & echo $!; wait; sleep 60")
    ((pid,), _) = one.ask(["go"], 30.0)
    one.close()
    assert wait_for(lambda: not alive(pid))


def test_silence_is_measured_from_the_last_answer():
    one = shell(f"while read -r x; do case $x in hang) sleep 60;; *) sleep 0.1;; esac; {SAY}; done")
    assert one.ask(list("abcdef"), 0.4) == (list("abcdef"), "")
    began = time.monotonic()
    assert one.ask(["a", "hang", "b"], 0.4) == (["a"], "silent")
    assert time.monotonic() - began < 5
    one.close()


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("exit 4", "ended with exit code 4"),
        ("kill -9 $$", "was killed by signal 9"),
        ("exec >&-; sleep 60", "closed its standard output"),
    ],
)
def test_the_end_of_a_program_is_seen_and_told(monkeypatch, script, how):
    monkeypatch.setattr(lines, "GRACE", 0.3)
    one = shell(f"read -r x; {SAY}; {script}")
    assert one.ask(["a", "b"], 30.0) == (["a"], "ended")
    assert one.end == how
    one.close()


def test_an_end_is_seen_although_a_child_keeps_the_pipes_open(monkeypatch):
    monkeypatch.setattr(lines, "LOOK_SECONDS", 0.2)
    one = shell("sleep 60 & exit 0")
    assert one.ask(["a"], None) == ([], "ended")
    one.close()


def test_more_lines_than_asked_are_a_fault_at_once_or_at_the_next_call():
    one = shell("while read -r x; do echo 1; echo 2; done")
    assert one.ask(["a"], 30.0).fault == "talkative"
    one.close()
    one = shell("while read -r x; do echo 1; [ $x = late ] && { sleep 0.2; echo 2; }; done")
    assert one.ask(["a"], 30.0) == (["1"], "")
    assert one.ask(["late"], 30.0) == (["1"], "")
    time.sleep(0.5)
    assert one.ask(["b"], 30.0) == ([], "talkative")
    one.close()


def test_standard_error_is_kept_and_never_blocks():
    noisy = (
        "import sys\nfor line in sys.stdin:\n"
        "    sys.stderr.write('noise ' * 50_000 + 'the end')\n    print(1)\n"
    )
    one = program(noisy)
    assert one.ask(["a", "b"], 30.0) == (["1", "1"], "")
    assert one.standard_error.endswith("the end")
    assert len(one.standard_error) <= 2000
    one.close()


def test_the_environment_is_passed_on_and_left_alone(monkeypatch):
    monkeypatch.setenv("A_SETTING", "7")
    before = dict(os.environ)
    one = program("import os, sys\nfor _ in sys.stdin:\n    print(os.environ['A_SETTING'])\n")
    assert one.ask(["x"], 30.0).lines == ["7"]
    assert dict(os.environ) == before
    one.close()


def test_commands_are_split_as_a_shell_would():
    assert arguments_of("bash -c 'a b' \"c d\"") == ["bash", "-c", "a b", "c d"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "no program ''"),
        ("no-such-program-anywhere --x", "no program 'no-such-program-anywhere' in PATH"),
        ("bash -c 'open", "cannot be read"),
    ],
)
def test_commands_that_cannot_run_are_refused_before_they_are_needed(command, message):
    with pytest.raises(ConfigError, match=message):
        arguments_of(command)


def test_a_file_that_is_no_program_is_refused(tmp_path):
    script = tmp_path / "script"
    script.write_text("no interpreter line\n")
    script.chmod(0o755)
    with pytest.raises(ConfigError, match="cannot be started"):
        LineProgram([str(script)])
