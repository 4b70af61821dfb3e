"""Laws of the same texts, and weights that stay."""

import pytest
import torch

from esscher.align.evaluate import evaluate
from esscher.align.fit import fit
from esscher.core import Reward, Target
from esscher.errors import ConfigError
from esscher.kit.lm.fingerprint import fingerprint
from esscher.kit.lm.identity import check_same_outcomes, token_digest
from esscher.kit.lm.tabular import TabularLM
from tests.align import worlds
from tests.kit.lm.models import KINDS, build, hf, small

LENGTH = Reward(lambda texts: [float(len(t)) for t in texts])


@pytest.mark.parametrize("kind", KINDS)
def test_copies_agree(kind):
    lm = build(kind)
    check_same_outcomes(lm.clone(), lm)
    assert token_digest(lm) == token_digest(lm.clone())


@pytest.mark.parametrize(
    ("model", "prior", "message"),
    [
        (lambda: small(letters="abd"), small, "the model's tokens .* are not the prior's"),
        (lambda: hf("gpt2"), small, "the model's tokens .* are not the prior's"),
        (lambda: hf("llama"), lambda: hf("gpt2"), "the model's tokens .* are not the prior's"),
        (lambda: small(max_new=4), small, "at most 4 tokens and the prior 3"),
        (lambda: TabularLM(2, 3), lambda: TabularLM(3, 3), "the model's tokens"),
    ],
)
def test_what_differs_is_named(model, prior, message):
    with pytest.raises(ConfigError, match=message):
        check_same_outcomes(model(), prior())
    target = Target(prior(), LENGTH)
    with pytest.raises(ConfigError, match=message):
        fit(model(), target, steps=1)
    with pytest.raises(ConfigError, match=message):
        evaluate(model(), target, 30)


def test_laws_of_other_kinds_are_let_through():
    table = worlds.toy().table()
    assert token_digest(table) is None
    check_same_outcomes(worlds.prior(), table)


def test_a_fingerprint_sees_any_step():
    lm = small()
    before = fingerprint(lm.module())
    assert fingerprint(lm.clone().module()) == before
    with torch.no_grad():
        next(iter(lm.module().parameters())).view(-1)[0] += 1e-4
    assert fingerprint(lm.module()) != before


def test_a_prior_that_moves_during_a_fit_is_an_error():
    prior = small()

    def meddle(done, *_):
        if done == 2:
            with torch.no_grad():
                next(iter(prior.module().parameters())).mul_(1.5)

    with pytest.raises(ConfigError, match="the prior's weights changed during the fit"):
        fit(small(), Target(prior, LENGTH), steps=3, batch=16, on_step=meddle)
