"""The cached prior: second calls read, damage is repaired, nothing is left half written."""

import dataclasses
import json
import os
import warnings
from pathlib import Path

import pytest
import torch

from esscher.errors import DataError
from esscher.kit.lm import builtin
from esscher.kit.lm.builtin import builtin_stdlib, default_cache_dir
from esscher.kit.lm.pretrain import PretrainConfig

TINY = PretrainConfig(vocab_size=257, width=8, layers=1, heads=2, steps=3, batch=4, last_batch=4)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "a.py").write_text("".join(f"def f{i}(x):\n    return {i}\n" for i in range(30)))
    (folder / "b.py").write_text("def g():\n    nonlocal_free = 1\n    return nonlocal_free\n")
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def entry(cache):
    (folder,) = (cache / "builtin").glob("stdlib-*")
    return folder


def forbidden(*args, **settings):
    raise AssertionError("called")


def test_the_second_call_reads_what_the_first_made(root, cache, monkeypatch):
    steps = []
    first = builtin_stdlib(cache, TINY, lambda step, loss: steps.append(step), root=root)
    assert steps == [1, 2, 3]
    assert not first.from_cache
    assert first.n_texts == 31
    monkeypatch.setattr(builtin, "pretrain", forbidden)
    monkeypatch.setattr(builtin, "stdlib_functions", forbidden)
    second = builtin_stdlib(cache, TINY, forbidden, root=root)
    assert second.from_cache
    for name in ("held_out_loss", "n_texts", "corpus_hash", "memorised"):
        assert getattr(first, name) == getattr(second, name)
    a, b = (m.model.sample(9, rng=torch.Generator().manual_seed(0)) for m in (first, second))
    assert torch.equal(a.x.tokens, b.x.tokens)
    assert torch.equal(a.log_prob, b.log_prob)
    assert sorted(p.name for p in entry(cache).iterdir()) == [
        "builtin.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not list(cache.rglob(".tmp-*"))


def test_each_configuration_and_corpus_has_its_own_entry(root, cache):
    builtin_stdlib(cache, TINY, root=root)
    other = builtin_stdlib(cache, dataclasses.replace(TINY, steps=2), root=root)
    assert not other.from_cache
    before = other.corpus_hash
    (root / "b.py").write_text("def h():\n    return 0\n")
    changed = builtin_stdlib(cache, TINY, root=root)
    assert not changed.from_cache
    assert changed.corpus_hash != before
    assert len(list((cache / "builtin").glob("stdlib-*"))) == 3


def test_only_functions_that_compile_are_kept(root, cache):
    (root / "b.py").write_text("def outer():\n    x = 1\n    def inner():\n        nonlocal x\n")
    prior = builtin_stdlib(cache, TINY, root=root)
    (file,) = (cache / "builtin").glob("texts-*")
    texts = json.loads(file.read_text())["texts"]
    assert prior.n_texts == len(texts) == 31
    assert not any(text.startswith("def inner") for text in texts)


@pytest.mark.parametrize("name", ["builtin.json", "config.json", "model.safetensors"])
def test_a_damaged_model_is_rebuilt_with_a_warning(root, cache, name):
    first = builtin_stdlib(cache, TINY, root=root)
    (entry(cache) / name).write_bytes(b"{}")
    with pytest.warns(UserWarning, match="rebuilding a damaged cache entry"):
        again = builtin_stdlib(cache, TINY, root=root)
    assert not again.from_cache
    assert again.held_out_loss == first.held_out_loss
    assert builtin_stdlib(cache, TINY, root=root).from_cache


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"hash": "0", "texts": ["def f(): pass"]}'])
def test_a_damaged_corpus_is_extracted_anew_with_a_warning(root, cache, content):
    first = builtin_stdlib(cache, TINY, root=root)
    (file,) = (cache / "builtin").glob("texts-*")
    file.write_text(content)
    with pytest.warns(UserWarning, match="extracting a damaged corpus cache"):
        again = builtin_stdlib(cache, TINY, root=root)
    assert again.corpus_hash == first.corpus_hash
    assert again.from_cache
    assert json.loads(file.read_text())["hash"] == first.corpus_hash


def test_an_unwritable_cache_goes_unused_with_warnings(root, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prior = builtin_stdlib(blocked, TINY, root=root)
    assert prior.n_texts == 31
    messages = [str(w.message) for w in caught]
    assert len(messages) == 2
    assert "the corpus is not cached" in messages[0]
    assert "the trained model is not cached" in messages[1]


@pytest.mark.parametrize("moment", ["training", "saving"])
def test_an_interrupt_leaves_no_half_written_entry(root, cache, moment, monkeypatch):
    def interrupt(*args):
        if moment == "saving":
            args[1].mkdir(parents=True)
            (args[1] / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "training":
            patch.setattr(builtin, "pretrain", interrupt)
        else:
            patch.setattr("esscher.kit.lm.causal.SmallLM.save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            builtin_stdlib(cache, TINY, root=root)
    assert [p.name.split("-")[0] for p in (cache / "builtin").iterdir()] == ["texts"]
    assert not builtin_stdlib(cache, TINY, root=root).from_cache


def test_the_slower_of_two_processes_keeps_the_first_entry(root, cache, monkeypatch):
    train = builtin.pretrain

    def overtaken(*args):
        with monkeypatch.context() as patch:
            patch.setattr(builtin, "pretrain", train)
            builtin_stdlib(cache, TINY, root=root)
        (entry(cache) / "first").write_text("")
        return train(*args)

    monkeypatch.setattr(builtin, "pretrain", overtaken)
    assert not builtin_stdlib(cache, TINY, root=root).from_cache
    assert (entry(cache) / "first").exists()
    assert builtin_stdlib(cache, TINY, root=root).from_cache
    assert not list(cache.rglob(".tmp-*"))


def test_a_library_without_functions_is_an_error(tmp_path, cache):
    with pytest.raises(DataError):
        builtin_stdlib(cache, TINY, root=tmp_path / "absent")


def test_memorised_counts_draws_from_the_corpus(root, cache, monkeypatch):
    monkeypatch.setattr(builtin, "pretrain", lambda texts, *_: (Parrot(texts), 1.0))
    monkeypatch.setattr(builtin, "_publish", lambda *_: None)
    assert builtin_stdlib(cache, TINY, root=root).memorised == 0.5


class Parrot:
    """Recites the corpus in every other draw."""

    def __init__(self, texts):
        self.texts = texts

    def sample(self, n, rng):
        from esscher.core.law import Draws

        return Draws([self.texts[i % 5] if i % 2 else "new" for i in range(n)], torch.zeros(n))

    def items(self, x):
        return x


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("ESSCHER_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    assert default_cache_dir() == Path("/own")
    monkeypatch.delenv("ESSCHER_CACHE")
    assert default_cache_dir() == Path("/shared/esscher")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path(os.path.expanduser("~/.cache/esscher"))  # noqa: PTH111
