"""Functions that worker processes can import; nothing heavy is imported with them."""

import os
import signal
import sys
import time
from pathlib import Path


class UnportableError(Exception):
    """Its message does not survive pickling."""

    def __init__(self, code):
        super().__init__(f"code {code}")


def square(xs):
    return [x * x for x in xs]


def who(batch):
    """The worker, how long the batch took, and what it may use."""
    time.sleep(batch)
    return os.getpid(), os.environ["OMP_NUM_THREADS"], "torch" in sys.modules


def torch_threads(batch):
    import torch

    return torch.get_num_threads()


def fail_on(batch):
    if batch < 0:
        raise KeyError(f"no {batch}")
    return batch


def unportable(batch):
    raise UnportableError(batch)


def generator(batch):
    return (x for x in range(batch))


def slept(seconds):
    time.sleep(seconds)
    return os.getpid(), seconds


def stubborn(folder):
    """Announces itself and ignores being asked to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(folder, "pid").write_text(str(os.getpid()))
    time.sleep(60)


def announced(batch):
    """The number squared; on its first attempt it names its process and waits to be killed."""
    folder, number = batch
    mark = Path(folder, f"pid{number}")
    if number == 2 and not mark.exists():
        mark.with_suffix(".tmp").write_text(str(os.getpid()))
        mark.with_suffix(".tmp").rename(mark)
        time.sleep(60)
    return number * number


def deadly(batch):
    """Kills its process on negative numbers, and counts how often it was called."""
    folder, number = batch
    with Path(folder, "calls").open("a") as file:
        file.write(f"{number}\n")
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave(code):
    sys.exit(code)


def nested(batch):
    """A pool inside a worker of a pool."""
    from esscher.kit.scale.pool import open_pool

    with open_pool("processes:1") as pool:
        return pool.map(square, [batch])[0]


def nested_open(batch):
    """The same, with the inner pool left to the end of the process."""
    from esscher.kit.scale.pool import open_pool

    global LEFT  # noqa: PLW0603 - what a careless function does
    LEFT = open_pool("processes:1")
    return LEFT.map(slept, [0])[0][0]


def daemonic(queue):
    """What opening a pool in a daemonic process leads to."""
    from esscher.kit.scale.pool import open_pool

    try:
        open_pool("processes:1").map(square, [[1]])
    except Exception as error:
        queue.put((type(error).__name__, str(error)))


class Counted:
    """A function that tells how often it was unpickled in its process."""

    loads = 0
    __name__ = "Counted"

    def __call__(self, batch):
        time.sleep(0.02)
        return os.getpid(), Counted.loads

    def __setstate__(self, state):
        Counted.loads += 1

    def __getstate__(self):
        return {"any": 1}


class Unloadable:
    """Pickles, but cannot be unpickled."""

    __name__ = "Unloadable"

    def __call__(self, batch):
        return batch

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ModuleNotFoundError("no module named elsewhere")
