"""The memory: what comes out is what went in, shared arrays once, weights by their formula."""

import numpy as np
import pytest
import torch

from esscher.branch.memory import Memory
from esscher.branch.priorities import Priorities
from esscher.errors import CheckpointError, ConfigError, DataError, ShapeError
from esscher.kit.runs.checkpoint import load_checkpoint, save_checkpoint
from esscher.kit.runs.tree import flatten_tree, unflatten_tree
from tests.branch.graphs import observation


def solve(rng, n, **shape):
    """Observations of one solve: same edges, other features."""
    first = observation(rng, **shape)
    seen = [first]
    for _ in range(n - 1):
        other = observation(rng, **shape)
        seen.append(other._replace(edge_row=first.edge_row, edge_column=first.edge_column,
                                   edge_value=first.edge_value))  # fmt: skip
    return seen


def chain(n, reward=-1.0):
    """Transitions along a path of n decisions."""
    return {
        "decision": np.arange(n),
        "reward": np.full(n, reward) - np.arange(n) / 8,
        "successor": np.r_[np.arange(1, n), -1],
        "discount": np.full(n, 0.5),
    }


def filled(n=6, capacity=10, **settings):
    seen = solve(np.random.default_rng(0), n)
    memory = Memory(capacity, **settings)
    memory.extend(seen, np.arange(n) % 3, **chain(n))
    return memory, seen


def test_what_comes_out_is_what_went_in():
    memory, seen = filled()
    batch = memory.sample(40, np.random.default_rng(1), "gasse19")
    assert set(batch.spot.tolist()) == set(range(6))
    column, following = 0, 0
    for i, spot in enumerate(batch.spot.tolist()):
        assert batch.place[i] == spot % 3
        assert batch.reward[i] == -1 - spot / 8
        assert batch.discount[i] == (0.5 if spot < 5 else 0)
        assert (batch.graphs.columns[column : column + 8].numpy() == seen[spot].columns).all()
        column += 8
        if spot < 5:
            assert batch.followed[following] == i
            part = batch.successors.columns[8 * following : 8 * following + 8]
            assert (part.numpy() == seen[spot + 1].columns).all()
            following += 1
    assert len(batch.followed) == following == len(batch.successors)
    assert (batch.weight == 1).all()


def test_without_successors_there_are_none():
    seen = solve(np.random.default_rng(0), 3)
    memory = Memory(3)
    memory.extend(seen, [0, 0, 0], **{**chain(3), "successor": [-1, -1, -1]})
    batch = memory.sample(5, np.random.default_rng(1), "retro43")
    assert batch.successors is None
    assert len(batch.followed) == 0
    assert not batch.discount.any()


def test_the_oldest_go_first():
    memory, _ = filled(6, capacity=4)
    assert len(memory) == 4
    rewards = memory.sample(60, np.random.default_rng(1), "gasse19").reward.unique()
    assert rewards.tolist() == [-1 - k / 8 for k in (5, 4, 3, 2)]
    memory.extend(solve(np.random.default_rng(2), 1), [0], **chain(1, reward=-9))
    rewards = memory.sample(60, np.random.default_rng(1), "gasse19").reward.unique()
    assert rewards.tolist() == [-9] + [-1 - k / 8 for k in (5, 4, 3)]


def test_uniform_draws_are_uniform():
    memory, _ = filled(5)
    batch = memory.sample(20_000, np.random.default_rng(3), "gasse19")
    counts = np.bincount(batch.spot, minlength=5)
    # Five standard deviations of a binomial with n = 20,000 and p = 1/5.
    assert np.abs(counts - 4000).max() < 5 * np.sqrt(20_000 * 0.2 * 0.8)


def test_priorities_draw_and_weigh_by_their_formulas():
    settings = Priorities(alpha=0.5, beta=0.4, beta_steps=10, smallest=0.01)
    memory, _ = filled(4, priorities=settings)
    error = np.array([4.0, -1.0, 0.0, 0.25])
    memory.update(np.arange(4), error)
    wanted = np.array([2.0, 1.0, 0.1, 0.5])
    wanted /= wanted.sum()
    batch = memory.sample(20_000, np.random.default_rng(4), "gasse19", updates=5)
    share = np.bincount(batch.spot, minlength=4) / 20_000
    # Draws are stratified: every share is within one of 20,000 strata per border.
    assert np.abs(share - wanted).max() <= 2 / 20_000
    weight = (4 * wanted) ** -0.7
    assert np.allclose(batch.weight.numpy(), (weight / weight.max())[batch.spot], rtol=1e-5)


def test_new_transitions_have_the_greatest_priority():
    memory, seen = filled(3, priorities=Priorities(alpha=1.0))
    memory.update(np.arange(3), np.array([5.0, 0.1, 0.1]))
    memory.extend(seen[:1], [0], **chain(1))
    batch = memory.sample(10_200, np.random.default_rng(5), "gasse19")
    assert abs(np.bincount(batch.spot)[3] - 5000) <= 2


def test_successors_and_edges_are_held_once():
    n = 50
    seen = solve(np.random.default_rng(6), n, rows=20, columns=30, edges=200)
    memory = Memory(n)
    empty = memory.nbytes
    memory.extend(seen, np.zeros(n, int), **chain(n))
    own = sum(s.rows.nbytes + s.columns.nbytes + s.tree.nbytes + s.candidates.nbytes for s in seen)
    edges = sum(part.nbytes for part in seen[0][3:6])
    assert memory.nbytes - empty == own + edges
    half = Memory(n, half=True)
    half.extend(seen, np.zeros(n, int), **chain(n))
    marks = sum(s.candidates.nbytes for s in seen)
    assert half.nbytes - empty == (own - marks) // 2 + marks + edges


def test_views_count_with_what_they_hold_alive():
    block = np.zeros((10, 8, 19), np.float32)
    seen = observation(np.random.default_rng(7))._replace(columns=block[3])
    memory = Memory(1)
    memory.extend([seen], [0], **chain(1))
    assert memory.nbytes > block.nbytes


def test_half_precision_is_near_and_keeps_what_is_too_great():
    rng = np.random.default_rng(8)
    seen = observation(rng)
    great = seen._replace(columns=seen.columns * np.float32(1e6))
    memory = Memory(2, half=True)
    memory.extend([seen, great], [0, 0], **chain(2))
    batch = memory.sample(20, rng, "retro43")
    for i, spot in enumerate(batch.spot.tolist()):
        part = batch.graphs.columns[8 * i : 8 * i + 8, :19].numpy()
        wanted = (seen, great)[spot].columns
        assert np.allclose(part, wanted, rtol=5e-4)
        assert (part == wanted).all() == (spot == 1)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("priorities", [None, Priorities()])
def test_a_checkpoint_goes_on_bit_for_bit(tmp_path, half, priorities):
    memory, seen = filled(9, capacity=7, half=half, priorities=priorities)
    great = seen[0]._replace(columns=seen[0].columns * np.float32(1e6))
    memory.extend([great], [0], **chain(1))
    memory.update(np.arange(7), np.linspace(0, 2, 7))
    tensors, tree = flatten_tree(memory.state_dict())
    save_checkpoint(tmp_path, 1, tensors, {"tree": tree})
    saved = load_checkpoint(tmp_path)
    again = Memory(7, half=half, priorities=priorities)
    again.load_state_dict(unflatten_tree(saved.tensors, saved.state["tree"]))
    assert again.nbytes == memory.nbytes
    for one in (memory, again):
        one.extend(seen[:2], [1, 1], **chain(2, reward=-3))
    first, second = (m.sample(30, np.random.default_rng(9), "retro43") for m in (memory, again))
    assert (first.spot == second.spot).all()
    for name in ("place", "reward", "discount", "followed", "weight"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    for name in ("graphs", "successors"):
        for field in ("rows", "columns", "edge_column", "edge_value", "candidates", "cell"):
            a, b = (getattr(getattr(part, name), field) for part in (first, second))
            assert torch.equal(a, b)


def test_an_empty_memory_can_be_saved():
    again = Memory(3)
    again.load_state_dict(Memory(3).state_dict())
    assert len(again) == 0
    with pytest.raises(DataError, match="empty"):
        again.sample(1, np.random.default_rng(0), "gasse19")


def test_a_checkpoint_of_another_kind_is_refused():
    memory, _ = filled()
    with pytest.raises(CheckpointError, match="capacity 10"):
        Memory(11).load_state_dict(memory.state_dict())
    with pytest.raises(CheckpointError, match="uniform"):
        Memory(10, priorities=Priorities()).load_state_dict(memory.state_dict())
    saved = memory.state_dict()
    saved["observations"]["rows"]["sizes"] += 1
    with pytest.raises(CheckpointError, match="damaged"):
        Memory(10).load_state_dict(saved)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"reward": [0.0]}, ShapeError, "reward and discount"),
        ({"reward": [0, 0, np.nan]}, DataError, "reward is not finite"),
        ({"discount": [0, 0, 1.5]}, DataError, "discount"),
        ({"decision": [0, 1, 3]}, DataError, "not among the 3"),
        ({"successor": [1, -2, 0]}, DataError, "not among the 3"),
    ],
)
def test_transitions_that_make_no_sense_are_refused(change, error, match):
    seen = solve(np.random.default_rng(0), 3)
    memory = Memory(5)
    with pytest.raises(error, match=match):
        memory.extend(seen, [0, 0, 0], **{**chain(3), **change})
    assert len(memory) == 0


def test_choices_and_errors_out_of_range_are_refused():
    memory, seen = filled(priorities=Priorities())
    with pytest.raises(DataError, match="chosen position"):
        memory.extend(seen[:1], [3], **chain(1))
    with pytest.raises(DataError, match="priority has no meaning"):
        memory.update(np.array([0]), np.array([np.nan]))
    with pytest.raises(ConfigError, match="capacity"):
        Memory(0)
    memory.extend(seen, np.zeros(6, int), **{name: [] for name in chain(0)})
    assert len(memory) == 6
