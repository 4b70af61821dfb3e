import inspect
import subprocess
import sys

import pytest

from esscher import core


@pytest.mark.parametrize("name", core.__all__)
def test_every_public_name_exists_and_is_documented(name):
    thing = getattr(core, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert inspect.getdoc(thing)


def test_names_are_unique():
    assert len(set(core.__all__)) == len(core.__all__)


def test_core_leaves_global_state_alone():
    code = (
        "import torch, numpy as np\n"
        "before = (torch.random.get_rng_state().tolist(), str(np.random.get_state()),\n"
        "          torch.get_default_dtype(), torch.get_num_threads())\n"
        "from esscher.core import Reward, Table, Target, metropolis_hastings, rejection\n"
        "rng = torch.Generator().manual_seed(0)\n"
        "prior = Table(torch.zeros(4))\n"
        "target = Target(prior, Reward(lambda i: [-float(k) for k in i]))\n"
        "rejection(target, prior, 0.0, 10, rng=rng)\n"
        "metropolis_hastings(target, prior, 8, 2, rng=rng)\n"
        "after = (torch.random.get_rng_state().tolist(), str(np.random.get_state()),\n"
        "         torch.get_default_dtype(), torch.get_num_threads())\n"
        "assert before == after\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
