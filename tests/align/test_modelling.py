"""Names on the command line become targets, or errors that say what is wrong."""

import json

import pytest
import torch

from esscher.align.modelling import (
    TargetOptions,
    build_target,
    find_function,
    load_prior,
    read_prompts,
)
from esscher.errors import CheckpointError, ConfigError, DataError
from esscher.kit.lm.tabular import TabularLM
from esscher.kit.runs.output import Output

PRIOR = TabularLM(alphabet=2, max_len=2)


@pytest.fixture
def evidence_module(tmp_path, monkeypatch):
    """A module in the working folder with functions of every kind."""
    name = f"evidence_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "def length(xs):\n    return [float(len(x)) for x in xs]\n"
        "def short(xs):\n    return [len(x) < 2 for x in xs]\n"
        "def moody(xs):\n"
        "    if any(len(x) < 2 for x in xs):\n"
        "        raise ValueError('too short')\n"
        "    return [True for x in xs]\n"
        "constant = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_evidence_of_every_kind_multiplies(evidence_module):
    options = TargetOptions(
        reward=f"{evidence_module}:length",
        beta=2.0,
        condition=(f"{evidence_module}:short",),
        moments=(f"{evidence_module}:length=1.0",),
    )
    target = build_target(PRIOR, options)
    assert len(set(target.names)) == 3
    x = PRIOR.enumerate()
    lengths = torch.tensor([float(len(item)) for item in PRIOR.items(x)], dtype=torch.float64)
    reward_only = build_target(PRIOR, TargetOptions(reward=f"{evidence_module}:length", beta=2.0))
    assert torch.equal(reward_only.log_weight(x), lengths / 2.0)


def test_raising_evidence_stops_or_rules_out_as_asked(evidence_module):
    x = PRIOR.enumerate()
    short = torch.tensor([len(item) < 2 for item in PRIOR.items(x)])
    for named in (
        {"condition": (f"{evidence_module}:moody",)},
        {"reward": f"{evidence_module}:moody"},
    ):
        with pytest.raises(DataError, match="ValueError: too short"):
            build_target(PRIOR, TargetOptions(**named)).log_weight(x)
        target = build_target(PRIOR, TargetOptions(**named, on_error="worst"))
        with pytest.warns(UserWarning, match=f"raised on {int(short.sum())} of {len(x)} items"):
            assert torch.equal(target.log_weight(x) == -torch.inf, short)


def test_builtin_prior_without_evidence_means_compiles():
    assert build_target(PRIOR, TargetOptions()).names[0] == "compiles"


def test_another_prior_without_evidence_is_refused():
    with pytest.raises(ConfigError, match="no evidence is given"):
        build_target(PRIOR, TargetOptions(prior="somewhere"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nocolon", "neither module:function nor built in"),
        ("no_such_module_at_all:f", "there is no module 'no_such_module_at_all'"),
        ("json:no_such_function", "no_such_function"),
        ("json:__doc__", "not a function"),
    ],
)
def test_bad_function_names(name, message):
    with pytest.raises(ConfigError, match=message):
        find_function(name, "reward")


@pytest.mark.parametrize("text", ["json:dumps", "json:dumps=half"])
def test_bad_moments(text):
    with pytest.raises(ConfigError, match=r"moments|module"):
        build_target(PRIOR, TargetOptions(moments=(text,)))


def test_prompts_are_read_in_order(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": p}) for p in ["def ", "class "]) + "\n\n")
    assert read_prompts(path) == ["def ", "class "]
    assert read_prompts(None) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no prompt"),
        ("{}\n", ":1: expected an object"),
        ('{"prompt": "a"}\nnot json\n', ":2: expected an object"),
        ('{"prompt": 3}\n', "must be a text, got int"),
    ],
)
def test_bad_prompt_files(tmp_path, content, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_prompts(path)


def test_missing_prompt_file(tmp_path):
    with pytest.raises(DataError, match="cannot read prompts"):
        read_prompts(tmp_path / "none.jsonl")


def test_prior_folder_that_is_none(tmp_path):
    with pytest.raises(CheckpointError):
        load_prior(str(tmp_path), Output(quiet=True))


def test_prior_from_a_folder(tmp_path):
    PRIOR.save(tmp_path)
    model, known = load_prior(str(tmp_path), Output(quiet=True))
    x = PRIOR.enumerate()
    assert torch.equal(model.log_prob(x), PRIOR.log_prob(x))
    assert known == {"name": str(tmp_path)}
