"""A network that branches, and its folder."""

import json

import numpy as np
import pytest

from esscher.branch.focus import Focus
from esscher.branch.graph_policy import GraphPolicy, load_network, load_policy, save_policy
from esscher.branch.serving import Scorer
from esscher.errors import CheckpointError
from tests.branch.graphs import observation, plain_scores
from tests.branch.test_network import lively


class Watcher:
    """An observer that shows what it is given."""

    def __init__(self, shown):
        self.shown, self.begun, self.asked = shown, [], 0

    def begin(self, model):
        self.begun.append(model)

    def observe(self, focus):
        self.asked += 1
        return self.shown


def focus(candidates, step=0):
    values = np.full(candidates, 0.5)
    return Focus(None, [object()] * candidates, values, values, 1, 0, step)


def test_it_takes_the_best_candidate():
    net = lively()
    for seed in range(5):
        seen = observation(np.random.default_rng(seed), candidates=6)
        policy = GraphPolicy(Scorer(net), Watcher(seen))
        policy.begin("model")
        assert policy.observer.begun == ["model"]
        assert policy.choose(focus(6)) == int(plain_scores(net, seen).argmax())


def test_a_single_candidate_asks_nobody():
    watcher = Watcher(None)
    policy = GraphPolicy(None, watcher)
    assert policy.choose(focus(1, step=3)) == 0
    assert watcher.asked == 0
    assert policy.choose(focus(1, step=0)) == 0
    assert watcher.asked == 1


@pytest.mark.parametrize("features", ["gasse19", "retro43"])
def test_what_is_saved_scores_the_same(tmp_path, features):
    net = lively(features=features, width=12, edges="legacy", output="logit")
    save_policy(net, tmp_path / "policy")
    seen = observation(np.random.default_rng(0))
    asked = []

    def observer_of(wanted):
        asked.append(wanted)
        return Watcher(seen)

    policy = load_policy(tmp_path / "policy", observer_of)
    assert asked == [features]
    assert policy.scorer.network.config == net.config
    assert np.array_equal(policy.scorer.scores(seen), Scorer(net).scores(seen))


def test_another_folder_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="does not hold"):
        load_network(tmp_path)
    folder = save_policy(lively(width=4), tmp_path)
    saved = json.loads((folder / "state.json").read_text())
    saved["state"]["network"]["width"] = 5
    (folder / "state.json").write_text(json.dumps(saved))
    with pytest.raises(CheckpointError, match="damaged"):
        load_network(tmp_path)
