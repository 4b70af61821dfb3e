"""Numbers in a file: many writers, and writers that are killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from esscher.kit.scale.ledger import Ledger

ROOT = Path(__file__).parents[3]


def test_rows_are_read_once_and_exactly(tmp_path):
    path = tmp_path / "deep" / "values.jsonl"
    values = {"a": 0.1, "b": -float("inf"), "c": 1e-300}
    kept = Ledger(path)
    assert kept.read() == {}
    assert kept.append(values) == {}
    assert kept.read() == {}, "its own rows are known to whoever wrote them"
    other = Ledger(path)
    assert other.read() == values
    assert kept.append({"d": 4.0}) == {}
    assert other.append({"e": 5.0}) == {"d": 4.0}
    assert kept.read() == {"e": 5.0}


KILLED = """
import os, signal, sys
from pathlib import Path
from esscher.kit.scale import ledger
write = os.write
def torn(handle, data):
    if bytes(data).count(b"\\n") > 2:
        write(handle, data[: len(data) // 2 + 7])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(handle, data)
os.write = torn
kept = ledger.Ledger(Path(sys.argv[1]))
kept.append({"a": 1.0})
kept.append({"b": 2.0, "c": 3.0, "d": 4.0})
"""


def test_kill_9_in_the_middle_of_a_write_costs_the_torn_row_only(tmp_path):
    path = tmp_path / "rewards.jsonl"
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    done = subprocess.run([sys.executable, "-c", KILLED, path], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    kept = Ledger(path)
    with pytest.warns(UserWarning, match="dropped"):
        assert kept.read() == {"a": 1.0, "b": 2.0}
    kept.append({"e": 5.0})
    assert Ledger(path).read() == {"a": 1.0, "b": 2.0, "e": 5.0}


def test_rows_of_several_writers_do_not_mix(tmp_path):
    """Each opens the file for itself, so its lock keeps threads apart as it does processes."""
    path = tmp_path / "rewards.jsonl"
    seen = {}

    def write(writer):
        kept, seen[writer] = Ledger(path), {}
        for i in range(50):
            rows = {f"{writer}-{i}-{j}": float(i) for j in range(20)}
            seen[writer] |= kept.append(rows) | rows
        barrier.wait()
        seen[writer] |= kept.read()

    barrier = threading.Barrier(4)
    writers = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["key"] for row in rows}) == len(rows) == 4 * 50 * 20
    assert all(found == {row["key"]: row["value"] for row in rows} for found in seen.values())
