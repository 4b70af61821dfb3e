"""Other models as factors of the target, and a classifier's likelihood."""

import logging

import pytest
import torch

from esscher.align.evaluate import evaluate
from esscher.align.modelling import TargetOptions, build_target
from esscher.align.rewards.classifier import Classifier
from esscher.align.rewards.expert import Expert
from esscher.core import Condition, Likelihood, Target
from esscher.errors import CheckpointError, ConfigError
from esscher.kit.lm.tabular import TabularLM
from tests.align import worlds
from tests.kit.lm.models import KINDS, build, every_sequence, hf, hf_tokenizer, small, vocab_of


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    for name in ("transformers", "huggingface_hub"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)


@pytest.mark.parametrize(("power", "prior_power"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5)])
def test_the_target_is_the_product_of_the_laws(power, prior_power):
    first, second = worlds.prior(), TabularLM(seed=8)
    target = Target(first, Likelihood(Expert(second, first), power), prior_power=prior_power)
    x = worlds.outcomes()
    wanted = prior_power * first.log_prob(x) + power * second.log_prob(x)
    torch.testing.assert_close(target.table().log_probs, wanted.log_softmax(0))


@pytest.mark.parametrize("kind", KINDS)
def test_an_expert_scores_the_very_tokens(kind):
    prior, other = build(kind, max_new=3), build(kind, max_new=3, seed=4)
    other.tokenizer = prior.tokenizer
    x = every_sequence(vocab_of(prior), 3)
    target = Target(prior, Likelihood(Expert(other, prior)))
    torch.testing.assert_close(
        target.log_weight(x, ["ab"] * len(x)), other.log_prob(x, context="ab"), atol=1e-5, rtol=0
    )
    texts = ["ab", "", "c"]
    plain = Expert(other, prior)(texts)
    torch.testing.assert_close(plain, other.log_prob(other.encode(texts)))


def test_a_tempered_prior_is_measured_against_the_prior_itself():
    """Numbers of a sampled evaluation are those summed over all outcomes."""
    target = Target(worlds.prior(), Condition(worlds.has_two), prior_power=0.5)
    policy = worlds.perturbed(3, 0.3)
    exact = evaluate(policy, target)
    hidden = Target(worlds.Sampled(worlds.prior()), Condition(worlds.has_two), prior_power=0.5)
    found = evaluate(worlds.Sampled(policy), hidden, 4000)
    for name in (
        "kl_target_model",
        "kl_target_prior",
        "kl_model_prior",
        "kl_model_target",
        "log_z",
    ):
        a, b = getattr(found, name), getattr(exact, name)
        assert abs(a.mean - b.mean) < 4.5 * a.se, name
    assert exact.kl_model_prior.mean > 0
    assert exact.kl_target_prior.mean > 0


def test_other_tokens_are_refused():
    with pytest.raises(ConfigError, match="are not the prior's"):
        Expert(small(letters="abd"), small())


@pytest.fixture
def classifier(tmp_path):
    from transformers import GPT2Config, GPT2ForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24}
        labels = {"id2label": {0: "good", 1: "bad", 2: "odd"}, "pad_token_id": 0}
        model = GPT2ForSequenceClassification(
            GPT2Config(
                vocab_size=4, num_labels=3, bos_token_id=0, eos_token_id=0, **shape, **labels
            )
        )
        with torch.no_grad():
            model.score.weight.normal_(0.0, 2.0)
    model.save_pretrained(tmp_path / "classifier")
    hf_tokenizer().save_pretrained(tmp_path / "classifier")
    return tmp_path / "classifier"


def test_a_classifier_says_what_its_model_says_one_text_at_a_time(classifier):
    found = Classifier(classifier, "bad")
    texts = ["a", "abc", "ccb", "bbbbb", "ca"]
    one = []
    for text in texts:
        ids = found.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            one.append(found.model(ids).logits[0].double().log_softmax(-1)[1])
    torch.testing.assert_close(found(texts), torch.stack(one), atol=1e-5, rtol=0)
    together = torch.stack([Classifier(classifier, n)(texts) for n in ("good", "bad", "odd")])
    torch.testing.assert_close(together.logsumexp(0), torch.zeros(5).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(found(["bc"], ["a"]), found(["abc"]))
    assert torch.equal(Classifier(classifier, "1")(texts), found(texts))


def test_a_classifier_is_evidence_by_name(classifier):
    options = TargetOptions(classifier=classifier, label="good", alpha=2.0)
    prior = hf("gpt2", max_new=3)
    target = build_target(prior, options)
    x = every_sequence(4, 3)
    texts = prior.items(x)
    keep = [i for i, t in enumerate(texts) if t]
    wanted = 2.0 * Classifier(classifier, "good")([texts[i] for i in keep])
    torch.testing.assert_close(target.log_weight(x.take(torch.tensor(keep))), wanted)


def test_what_a_classifier_cannot_be(classifier, tmp_path):
    with pytest.raises(ConfigError, match="no label 'nice'; it has good, bad, odd"):
        Classifier(classifier, "nice")
    with pytest.raises(CheckpointError, match="no readable classifier"):
        Classifier(tmp_path / "nothing", "good")
    hf("gpt2").save(tmp_path / "model")
    with pytest.raises(CheckpointError, match="without a classification head"):
        Classifier(tmp_path / "model", "0")
    with pytest.raises(ConfigError, match="add --classifier"):
        build_target(small(), TargetOptions(label="good"))
    with pytest.raises(ConfigError, match="needs a --label"):
        build_target(small(), TargetOptions(classifier=classifier))


def test_experts_and_powers_by_name(tmp_path):
    other = small(seed=3)
    other.save(tmp_path)
    prior = small()
    target = build_target(prior, TargetOptions(expert=(f"{tmp_path}=0.5",), prior_power=0.25))
    x = every_sequence(4, 3)
    wanted = 0.25 * prior.log_prob(x) + 0.5 * other.log_prob(x)
    torch.testing.assert_close(target.log_density(x), wanted, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="is not FOLDER=POWER"):
        build_target(prior, TargetOptions(expert=(str(tmp_path),)))
