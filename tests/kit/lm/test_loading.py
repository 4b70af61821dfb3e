"""One door to every kind of model folder."""

import logging

import pytest
import torch

from esscher.errors import CheckpointError
from esscher.kit.lm.causal import SmallLM
from esscher.kit.lm.hf import TransformersLM
from esscher.kit.lm.loading import load_language_model
from esscher.kit.lm.tabular import TabularLM
from tests.kit.lm.models import hf, small


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (small, SmallLM),
        (lambda: TabularLM(2, 3), TabularLM),
        (lambda: hf("gpt2", max_new=4), TransformersLM),
    ],
)
def test_the_kind_is_found_and_the_law_is_the_same(build, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "level", logging.ERROR)
    lm = build()
    lm.save(tmp_path)
    x = lm.sample(8, rng=torch.Generator().manual_seed(0)).x
    for path in (tmp_path, str(tmp_path)):
        again = load_language_model(path)
        assert type(again) is kind
        assert torch.equal(again.log_prob(x), lm.log_prob(x))


def test_what_is_no_model_folder(tmp_path):
    with pytest.raises(CheckpointError, match="found no such folder"):
        load_language_model(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="found an empty folder"):
        load_language_model(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"found notes\.txt"):
        load_language_model(tmp_path)
    with pytest.raises(CheckpointError, match="found a file"):
        load_language_model(tmp_path / "notes.txt")


@pytest.mark.parametrize("content", ["{ damaged", "[]", "{}", "\udcff"])
def test_unreadable_configurations(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match="not a readable model configuration"):
        load_language_model(tmp_path)


def test_damaged_models_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text('{"model_type": "esscher_gpt"}')
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "tabular.safetensors").write_bytes(b"")
    for name, message in [("a", "not a readable"), ("b", "found only"), ("c", "no readable")]:
        with pytest.raises(CheckpointError, match=message):
            load_language_model(tmp_path / name)
