"""Talking to a program line by line."""

import os
import sys
import time

import pytest

from esscher.errors import ConfigError
from esscher.kit.scale.lines import LineProgram, arguments_of
from tests.kit.scale.test_pool import alive, wait_for

ECHO = "import sys\nfor line in sys.stdin:\n    print(line.strip())\n"


def program(source):
    return LineProgram([sys.executable, "-c", source])


def test_every_line_gets_its_answer_also_when_pipes_fill_up():
    """Megabytes both ways: reading and writing take turns, or both sides would wait."""
    lines = [f"{i} " + "x" * 300 for i in range(10_000)]
    one = program(ECHO)
    assert one.ask(lines, 30.0) == (lines, "")
    assert one.ask(["again", ""], 30.0) == (["again", ""], "")
    one.close()


def test_a_lone_program_is_ended_with_its_last_reference():
    one = program("import os, sys\nfor line in sys.stdin:\n    print(os.getpid())\n")
    ((pid,), _) = one.ask(["who"], 30.0)
    assert alive(pid)
    del one
    assert not alive(pid)


def test_closing_ends_what_the_program_started(tmp_path):
    mark = tmp_path / "child"
    source = (
        "import subprocess, sys, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "print(child.pid)\nchild.wait()\n"
    )
    one = program(source)
    ((pid,), _) = one.ask(["go"], 30.0)
    one.close()
    assert wait_for(lambda: not alive(pid))


def test_silence_is_measured_from_the_last_answer():
    slow = (
        "import sys, time\nfor line in sys.stdin:\n"
        "    time.sleep(60 if line.strip() == 'hang' else 0.15)\n    print(line.strip())\n"
    )
    one = program(slow)
    one.ask(["warm"], 30.0)
    assert one.ask(list("abcd"), 0.5) == (list("abcd"), "")
    began = time.monotonic()
    assert one.ask(["a", "hang", "b"], 0.5) == (["a"], "silent")
    assert time.monotonic() - began < 5
    one.close()


@pytest.mark.parametrize(
    ("source", "how"),
    [
        ("import sys; sys.exit(4)", "ended with exit code 4"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("import os, time; os.close(1); time.sleep(60)", "closed its standard output"),
    ],
)
def test_the_end_of_a_program_is_seen_and_told(source, how):
    one = program(f"import sys; print(sys.stdin.readline().strip()); {source}")
    assert one.ask(["a", "b"], 30.0) == (["a"], "ended")
    assert one.end == how
    one.close()


def test_an_end_is_seen_although_a_child_keeps_the_pipes_open():
    source = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "sys.exit(0)\n"
    )
    one = program(source)
    assert one.ask(["a"], None) == ([], "ended")
    one.close()


def test_more_lines_than_asked_are_a_fault_at_once_or_at_the_next_call():
    chatty = "import sys\nfor line in sys.stdin:\n    print(1)\n    print(2)\n"
    one = program(chatty)
    assert one.ask(["a"], 30.0).fault == "talkative"
    one.close()
    late = (
        "import sys, time\nfor line in sys.stdin:\n    print(1)\n"
        "    if line.strip() == 'late':\n        time.sleep(0.3)\n        print(2)\n"
    )
    one = program(late)
    assert one.ask(["a"], 30.0) == (["1"], "")
    assert one.ask(["late"], 30.0) == (["1"], "")
    time.sleep(0.6)
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
