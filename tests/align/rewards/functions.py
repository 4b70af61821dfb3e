"""Rewards of every temper, importable by worker processes, and programs that do the same."""

import os
import signal
import sys
import time
from pathlib import Path

LENGTH = """
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"reward": len(row["text"]) + 100.0 * len(row["prompt"] or "")}))
"""
"""A program: the length of the text, and 100 for every letter of the prompt."""


def length(items, contexts=None):
    prompts = [""] * len(items) if contexts is None else contexts
    return [float(len(x)) + 100.0 * len(p) for x, p in zip(items, prompts, strict=True)]


def plain_length(items):
    return [float(len(x)) for x in items]


def process(items):
    time.sleep(0.05)
    return [float(os.getpid())] * len(items)


def torch_is_loaded(items):
    return [float("torch" in sys.modules)] * len(items)


def sizes(items):
    """How many items it was called with."""
    return [float(len(items))] * len(items)


def short(items):
    return [1.0] * (len(items) - 1)


def nan_on_b(items):
    return [float("nan") if x == "b" else 1.0 for x in items]


def words(items):
    return ["one"] * len(items)


def picky(items):
    if "b" in items:
        raise ValueError("no b, please")
    return [1.0] * len(items)


def hang(items):
    if "b" in items:
        time.sleep(60)
    return [1.0] * len(items)


def die(items):
    if "b" in items:
        os.kill(os.getpid(), signal.SIGKILL)
    return [1.0] * len(items)


class Counting:
    """The length, and a record of all it was asked."""

    __name__ = "Counting"

    def __init__(self):
        self.asked = []

    def __call__(self, items, contexts=None):
        self.asked += list(items)
        return length(items, contexts)


def program(folder, source, name="score.py"):
    """The command of a program with that source."""
    path = Path(folder, name)
    path.write_text(source)
    return f"{sys.executable} {path}"
