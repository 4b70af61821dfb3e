"""One table of every public objective, held to the same rules on every kind of model."""

import copy
import inspect
from functools import cache

import pytest
import torch

from esscher.align.config import FitConfig
from esscher.align.fit import fit
from esscher.align.objectives import OBJECTIVES, Batch
from esscher.align.train import init, step
from esscher.core import Condition, Reward, Target
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.runs.folder import Run
from tests.align import worlds
from tests.kit.lm.models import hf, small

each = pytest.mark.parametrize("name", list(OBJECTIVES))
on_whole_draws = pytest.mark.parametrize(
    "name", [name for name, o in OBJECTIVES.items() if not o.per_token]
)
MODELS = {
    "tabular": worlds.prior,
    "small": lambda: small(max_new=4),
    "transformers": lambda: hf("gpt2", max_new=4),
}
on_each_model = pytest.mark.parametrize("kind", list(MODELS))


@cache
def model(kind) -> LanguageModel:
    return MODELS[kind]()


def length(items):
    return [float(len(item)) for item in items]


def even(items):
    """A coin that every outcome carries with it, for texts and id lists alike."""
    return [sum(map(ord, str(item))) % 2 == 0 for item in items]


@cache
def target(kind, evidence="soft") -> Target:
    return Target(model(kind), Reward(length) if evidence == "soft" else Condition(even))


def config(name, **settings):
    return FitConfig(name, **{"steps": 6, "batch": 32, "lr": 0.01, "check_every": 2} | settings)


def weights(policy):
    return {k: v.detach().clone() for k, v in policy.module().state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def random_batch(seed, n=16, *, on_policy=False):
    rng = worlds.seeded(seed)

    def numbers():
        return torch.randn(n, generator=rng, dtype=torch.float64) - 4.0

    log_pi = numbers()
    log_q = log_pi.clone() if on_policy else numbers()
    weight = numbers()
    log_target = numbers() + weight + 4.0
    return Batch(
        log_pi.requires_grad_(), log_q, log_target, weight, torch.tensor(0.3).double(),
        torch.arange(4).repeat_interleave(n // 4), torch.ones(n, dtype=torch.int64),
    )  # fmt: skip


@each
def test_signature(name):
    objective = OBJECTIVES[name]
    assert objective.name == name
    parameters = list(inspect.signature(objective.loss).parameters.values())
    assert [p.name for p in parameters] == ["batch"]
    doc = inspect.getdoc(objective.loss)
    assert "Reference:" in doc
    assert objective.minimises is not None or "collapse" in doc
    assert ("biased" in name) == ("_loss" in name or "_reward" in name)
    # Reverse-KL-like objectives must be told what a ruled-out draw is worth.
    if objective.on_policy_only:
        assert objective.proposal == "on_policy"


@on_whole_draws
def test_the_loss_is_pure(name, no_global_state):
    batch = random_batch(0, on_policy=OBJECTIVES[name].on_policy_only)
    before = [copy.deepcopy(part.detach()) for part in batch]
    loss = OBJECTIVES[name].loss(batch)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    (slope,) = torch.autograd.grad(loss, batch.log_pi)
    again = OBJECTIVES[name].loss(batch)
    assert float(loss.detach()) == float(again.detach())
    assert bool(slope.isfinite().all())
    assert float(slope.abs().sum()) > 0
    assert all(torch.equal(a, b.detach()) for a, b in zip(before, batch, strict=True))


@on_whole_draws
def test_the_order_of_draws_does_not_matter(name):
    batch = random_batch(2, on_policy=OBJECTIVES[name].on_policy_only)
    order = torch.randperm(16, generator=worlds.seeded(5))
    shuffled = Batch(*(part if part.ndim == 0 else part.detach()[order] for part in batch))
    shuffled = shuffled._replace(log_pi=shuffled.log_pi.requires_grad_())
    (a,) = torch.autograd.grad(OBJECTIVES[name].loss(batch), batch.log_pi)
    (b,) = torch.autograd.grad(OBJECTIVES[name].loss(shuffled), shuffled.log_pi)
    assert torch.allclose(a[order], b, atol=1e-12)


@each
@on_each_model
@pytest.mark.parametrize("evidence", ["soft", "hard"])
def test_a_step_has_a_finite_gradient_at_the_prior(name, kind, evidence, no_global_state):
    policy = model(kind).clone()
    before = weights(policy)
    state, info = step(init(policy, config(name)), target(kind, evidence), config(name))
    assert 0 < info.grad_norm < 1e6
    assert state.done == 1
    assert not same(weights(state.policy), before)
    assert same(weights(model(kind)), before)
    assert 0 <= info.ess <= 1 + 1e-12
    assert info.satisfied == 1.0 if evidence == "soft" else 0 < info.satisfied < 1


@pytest.mark.filterwarnings("ignore:.*miss a part of the target")
@each
@on_each_model
def test_fit_repeats_itself_and_leaves_its_inputs_alone(name, kind, no_global_state):
    before = weights(model(kind))
    results = [fit(model(kind), target(kind), config=config(name, steps=3)) for _ in range(2)]
    assert same(weights(results[0].policy), weights(results[1].policy))
    assert results[0].history == results[1].history
    assert same(weights(model(kind)), before)
    assert not same(weights(results[0].policy), before)


class CrashError(Exception):
    pass


@pytest.mark.filterwarnings("ignore:.*miss a part of the target")
@each
@on_each_model
def test_k_steps_and_k_more_are_2k_steps(name, kind, tmp_path, no_global_state):
    settings = config(name)
    whole = fit(model(kind), target(kind), config=settings)
    run = Run.create(tmp_path, "align", "fit", "halves", config=settings, seed=0)

    def stop(done, total, info, state):
        if done == 3:
            raise CrashError

    with pytest.raises(CrashError):
        fit(model(kind), target(kind), config=settings, run=run, save_every=3, on_step=stop)
    resumed = fit(model(kind), target(kind), config=settings, run=Run.open(run.path, settings))
    assert same(weights(resumed.policy), weights(whole.policy))
    assert resumed.history == whole.history


@each
@pytest.mark.parametrize("kind", ["small", "transformers"])
def test_prompts_are_no_special_case(name, kind):
    settings = config(name, steps=2, group=8)
    result = fit(model(kind), target(kind), config=settings, prompts=["a", "bc"])
    assert len(result.history) == 2
    assert not same(weights(result.policy), weights(model(kind)))


@on_whole_draws
def test_one_step_lowers_what_is_minimised(name):
    """A large batch and a small step: the exact divergence to the target must fall."""
    from tests.align.test_exact_objectives import claimed

    toy, policy = worlds.toy(), worlds.perturbed(7, 0.5)
    settings = FitConfig(name, steps=1, batch=8192, lr=0.01, warmup=0.0, average=0.0)
    before = float(claimed(name, policy, toy, worlds.log_prior()).detach())
    result = fit(policy, toy, config=settings)
    assert isinstance(result.policy, TabularLM)
    after = float(claimed(name, result.policy, toy, worlds.log_prior()).detach())
    assert after < before - 1e-4
