"""Batches over processes: order, errors, deaths, timeouts, and nothing left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from esscher.errors import ConfigError, DataError, WorkerError, WorkerTimeoutError
from esscher.kit.scale import processes
from esscher.kit.scale.pool import open_pool
from tests.kit.scale import functions
from tests.kit.scale.watching import alive, wait_for

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def two():
    """A pool that most tests share, as long-lived pools are used."""
    with open_pool("processes:2") as pool:
        yield pool


@pytest.mark.parametrize("spec", ["serial", "processes:2"])
def test_results_come_in_the_order_of_the_batches(spec):
    batches = [[i, i + 1] for i in range(17)]
    with open_pool(spec) as pool:
        assert pool.map(functions.square, iter(batches)) == [[i * i for i in b] for b in batches]
        assert pool.map(functions.square, []) == []


def test_slow_batches_do_not_change_the_order(two):
    assert [n for _, n in two.map(functions.slept, [0.2, 0.0, 0.1, 0.0])] == [0.2, 0.0, 0.1, 0.0]


def test_workers_are_other_processes_of_one_thread_that_load_no_torch(two):
    found = two.map(functions.who, [0.1] * 4)
    assert len({pid for pid, _, _ in found}) == two.workers == 2
    assert os.getpid() not in {pid for pid, _, _ in found}
    assert {threads for _, threads, _ in found} == {"1"}
    assert not any(torch for _, _, torch in found)


def test_torch_in_a_worker_has_one_thread(two):
    assert two.map(functions.torch_threads, [None]) == [1]


def test_the_parent_is_left_as_it_was(no_global_state):
    with open_pool("processes:1") as pool:
        pool.map(functions.square, [[1]])


def test_a_function_is_sent_to_each_worker_once(two):
    found = two.map(functions.Counted(), range(6)) + two.map(functions.Counted(), range(6))
    assert {loads for _, loads in found} == {1}
    two.map(functions.square, [[1], [2]])
    assert {loads for _, loads in two.map(functions.Counted(), range(6))} <= {1, 2}


@pytest.mark.parametrize("spec", ["serial", "processes:2"])
def test_what_the_function_raises_arrives_as_itself_with_the_batch(spec):
    with open_pool(spec) as pool:
        with pytest.raises(KeyError, match="no -2") as caught:
            pool.map(functions.fail_on, [0, 1, -2])
        (note,) = caught.value.__notes__
        assert note.startswith("raised by fail_on on batch 2 of 3")
        assert ("in fail_on" in note) == (spec != "serial"), "a worker's traceback is quoted"
        assert pool.map(functions.fail_on, [5]) == [5]


def test_an_error_that_cannot_travel_is_told(two):
    with pytest.raises(WorkerError, match="UnportableError: code 7"):
        two.map(functions.unportable, [7])


def test_a_result_that_cannot_travel_is_an_error_of_its_batch(two):
    with pytest.raises(TypeError, match="generator") as caught:
        two.map(functions.generator, [3])
    assert "batch 0 of 1" in caught.value.__notes__[0]


def test_a_function_that_cannot_be_loaded_is_an_error_each_time(two):
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="elsewhere"):
            two.map(functions.Unloadable(), [1])


def test_a_function_that_cannot_be_pickled_is_refused(two):
    with pytest.raises(ConfigError, match=r"<lambda> cannot be sent to a process.*top level"):
        two.map(lambda batch: batch, [1])
    with open_pool("serial") as pool:
        assert pool.map(lambda batch: batch, [1]) == [1]


def test_a_batch_that_cannot_be_pickled_is_named(two):
    with pytest.raises(DataError, match="batch 1 of square cannot be sent"):
        two.map(functions.square, [[1], (x for x in [2])])


def test_a_worker_killed_in_a_batch_loses_nothing(tmp_path):
    """kill -9 while the third of six batches runs: it runs again, the others are not disturbed."""
    mark = tmp_path / "pid2"

    def kill():
        assert wait_for(mark.exists)
        os.kill(int(mark.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with open_pool("processes:2") as pool:
        found = pool.map(functions.announced, [(str(tmp_path), i) for i in range(6)])
    killer.join()
    assert found == [i * i for i in range(6)]
    assert not alive(mark.read_text())


def test_a_worker_killed_between_calls_is_replaced():
    with open_pool("processes:1") as pool:
        ((first, _),) = pool.map(functions.slept, [0])
        os.kill(first, signal.SIGKILL)
        ((second, _),) = pool.map(functions.slept, [0])
    assert second != first


@pytest.mark.parametrize("retries", [0, 2])
def test_a_batch_that_kills_every_worker_is_given_up_by_name(tmp_path, retries):
    batches = [(str(tmp_path), 1), (str(tmp_path), -7)]
    with open_pool("processes:1", retries=retries) as pool:
        with pytest.raises(WorkerError, match=r"deadly on batch 1 of 2.*killed by signal 9") as c:
            pool.map(functions.deadly, batches)
        assert "-7" in str(c.value)
        calls = (tmp_path / "calls").read_text().split()
        assert calls == ["1"] + ["-7"] * (1 + retries)
        assert pool.map(functions.deadly, batches[:1]) == [1]


def test_a_worker_that_leaves_is_told_by_its_exit_code():
    with (
        open_pool("processes:1", retries=0) as pool,
        pytest.raises(WorkerError, match="ended with exit code 3, 1 times in all"),
    ):
        pool.map(functions.leave, [3])


def test_a_batch_that_takes_too_long_is_stopped_and_named(two):
    began = time.monotonic()
    with pytest.raises(WorkerTimeoutError, match=r"slept on batch 1 of 2.*timeout of 0.3 s") as c:
        two.map(functions.slept, [0, 60], timeout=0.3)
    assert "the batch is 60" in str(c.value)
    assert isinstance(c.value, TimeoutError)
    assert time.monotonic() - began < 20
    assert [n for _, n in two.map(functions.slept, [0.01, 0.02], timeout=20)] == [0.01, 0.02]


def test_the_timeout_is_that_of_a_call_and_not_of_all():
    """Starting a worker, and waiting for a free one, does not count."""
    with open_pool("processes:1") as pool:
        assert len(pool.map(functions.slept, [0.4] * 5, timeout=1.5)) == 5


def test_a_worker_that_ignores_the_request_to_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.2)
    with open_pool("processes:1") as pool, pytest.raises(WorkerTimeoutError):
        pool.map(functions.stubborn, [str(tmp_path)], timeout=0.5)
    assert not alive((tmp_path / "pid").read_text())


def test_a_serial_pool_refuses_a_timeout_it_cannot_keep():
    with pytest.raises(ConfigError, match="take 'processes:1'"):
        open_pool("serial").map(functions.square, [[1]], timeout=1.0)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_timeout_is_a_time(two, timeout):
    with pytest.raises(ConfigError, match="above 0 seconds"):
        two.map(functions.square, [[1]], timeout=timeout)


def test_workers_end_with_the_pool_and_a_closed_pool_says_so():
    with open_pool("processes:2") as pool:
        pids = [pid for pid, _ in pool.map(functions.slept, [0.05, 0.05])]
    assert not any(map(alive, pids))
    pool.close()
    with pytest.raises(ConfigError, match="the pool is closed"):
        pool.map(functions.square, [[1]])


def test_workers_end_with_the_last_reference():
    pool = open_pool("processes:1")
    ((pid, _),) = pool.map(functions.slept, [0])
    del pool
    assert not alive(pid)


def test_pools_nest(two):
    """A worker may have a pool of its own, also one that it never closes."""
    assert two.map(functions.nested, [[2], [3]]) == [[4], [9]]
    with open_pool("processes:1") as pool:
        (inner,) = pool.map(functions.nested_open, [None])
        assert alive(inner)
    assert wait_for(lambda: not alive(inner))


def test_a_daemonic_process_is_told_that_it_cannot_have_workers():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=functions.daemonic, args=(queue,), daemon=True)
    process.start()
    kind, message = queue.get(timeout=30)
    process.join()
    assert kind == "ConfigError"
    assert "daemonic" in message


SCRIPT = """
import signal
# A shell's background jobs begin with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import sys
from esscher.kit.scale.pool import open_pool
from esscher.kit.scale.program import ScoringProgram
from tests.kit.scale import functions
if {guard}:
    pool = open_pool("processes:2")
    pids = [pid for pid, _ in pool.map(functions.slept, [0.1, 0.1])]
    program = ScoringProgram(sys.executable + " program.py")
    pids += [int(pid) for found in pool.map(program, [["who"], ["who"]]) for pid in found]
    print(*pids, flush=True)
    pool.map(program, [["hang"], ["hang"]])
"""
PROGRAM = """
import json, os, sys, time
for line in sys.stdin:
    time.sleep(60 if json.loads(line)["text"] == "hang" else 0.1)
    print(os.getpid())
"""


def script(tmp_path, guard):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(guard=guard))
    (tmp_path / "program.py").write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, str(path)], stdout=pipe, stderr=pipe, text=True, env=env, cwd=tmp_path
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_whatever_ends_a_script_leaves_no_workers_and_no_programs_of_theirs(tmp_path, number):
    with script(tmp_path, "__name__ == '__main__'") as process:
        pids = process.stdout.readline().split()
        assert len(set(pids)) == 4
        assert all(map(alive, pids))
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == -number
    assert wait_for(lambda: not any(map(alive, pids)))


def test_a_script_without_its_guard_is_told_so(tmp_path):
    with script(tmp_path, "True") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "if __name__ == '__main__':" in errors.splitlines()[-1]


@pytest.mark.parametrize(
    "spec", ["", "Serial", "serial:2", "processes", "processes:0", "processes:x", "ray", "ray:0"]
)
def test_other_specifications_are_refused_by_name(spec):
    with pytest.raises(ConfigError, match=f"got {spec!r}"):
        open_pool(spec)


def test_negative_retries_are_refused():
    with pytest.raises(ConfigError, match="retries >= 0, got -1"):
        open_pool("serial", retries=-1)
