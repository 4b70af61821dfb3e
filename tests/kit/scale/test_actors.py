"""The Ray back end: its gate everywhere, the rest where Ray is installed."""

import importlib.util
import sys

import pytest

from esscher.errors import MissingExtra, WorkerError, WorkerTimeoutError
from esscher.kit.scale.pool import open_pool
from tests.kit.scale import functions

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")


def test_without_ray_the_pip_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "esscher\[ray\]"'):
        open_pool("ray:auto")


@pytest.fixture(scope="module")
def cluster():
    """A local cluster of two cores."""
    with open_pool("ray:2") as pool:
        yield pool


@needs_ray
@pytest.mark.filterwarnings("default")
class TestCluster:
    """What `test_pool` says of processes holds on actors."""

    def test_order_and_workers(self, cluster):
        assert cluster.workers == 2
        assert cluster.map(functions.square, [[i] for i in range(5)]) == [[i * i] for i in range(5)]
        assert len({pid for pid, *_ in cluster.map(functions.who, [0.1, 0.1])}) == 2

    def test_functions_defined_on_the_spot(self, cluster):
        assert cluster.map(lambda batch: batch + 1, [1, 2]) == [2, 3]

    def test_a_function_is_sent_to_each_worker_once(self, cluster):
        found = [
            *cluster.map(functions.Counted(), range(4)),
            *cluster.map(functions.Counted(), [0]),
        ]
        assert {loads for _, loads in found} == {1}

    def test_errors_arrive_as_themselves(self, cluster):
        with pytest.raises(KeyError, match="no -2") as caught:
            cluster.map(functions.fail_on, [1, -2])
        assert "batch 1 of 2" in caught.value.__notes__[0]

    def test_unloadable_functions_are_errors_each_time(self, cluster):
        for _ in range(2):
            with pytest.raises(ModuleNotFoundError, match="elsewhere"):
                cluster.map(functions.Unloadable(), [1])

    def test_timeouts_are_named(self, cluster):
        with pytest.raises(WorkerTimeoutError, match=r"slept on batch 0 of 1.*0.3 s"):
            cluster.map(functions.slept, [60], timeout=0.3)

    def test_deaths_are_retried_then_named(self, cluster, tmp_path):
        with pytest.raises(WorkerError, match="deadly on batch 0 of 1: the worker was lost"):
            cluster.map(functions.deadly, [(str(tmp_path), -7)])
        assert (tmp_path / "calls").read_text().split() == ["-7"] * 3
