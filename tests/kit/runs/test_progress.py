import io

import pytest

from esscher.kit.runs.output import Output
from esscher.kit.runs.progress import Progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Number:
    def to_json(self):
        return {"mean": -3.21, "se": 0.04, "n": 100}


@pytest.fixture
def clock():
    return Clock()


def test_plain_lines_come_every_few_seconds_and_at_the_end(clock):
    stream = io.StringIO()
    with Progress(80, "fit", stream=stream, clock=clock, interval=5) as progress:
        for _ in range(80):
            clock.now += 0.125
            progress.update(ESS=412.0, log_Z=Number(), KL=None)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "fit  40/80  8/s  ETA 5s  ESS 412  log Z −3.210 ± 0.040  KL not available",
        "fit  80/80  8/s  in 10s  ESS 412  log Z −3.210 ± 0.040  KL not available",
    ]


def test_a_resumed_start_does_not_count_for_the_rate(clock):
    progress = Progress(100, "fit", start=90, stream=io.StringIO(), clock=clock)
    clock.now = 10.0
    progress.update(5)
    assert progress.line() == "fit  95/100  2 s each  ETA 10s"


def test_an_unknown_total_has_no_end(clock):
    progress = Progress(None, "draw", stream=io.StringIO(), clock=clock)
    assert progress.line() == "draw  0"
    clock.now = 2.0
    progress.update(10, kept=3)
    assert progress.line() == "draw  10  5/s  in 2s  kept 3"


def test_a_terminal_gets_one_line_redrawn(clock, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "50")
    stream = Terminal()
    with Progress(3, "fit", stream=stream, clock=clock) as progress:
        for _ in range(3):
            clock.now += 1
            progress.update(ESS=10.0, note="x" * 80)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "3/3" in text
    assert "…" in text
    assert "\x1b[1mfit" in text


def test_no_color_leaves_no_colour(clock, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with Progress(1, "fit", stream=stream, clock=clock) as progress:
        clock.now = 1.0
        progress.update()
    assert "1/1" in stream.getvalue()
    assert "\x1b[36m" not in stream.getvalue()


def test_quiet_is_silent(clock, capsys):
    output = Output(quiet=True, verbose=True)
    with output.progress(2, "fit") as progress:
        progress.update(2)
    output.say("hello")
    output.detail("more")
    assert capsys.readouterr() == ("", "")


def test_notes_go_to_standard_error(capsys):
    Output().say("hello")
    Output().detail("unseen")
    Output(verbose=True).detail("more")
    assert capsys.readouterr() == ("", "hello\nmore\n")
