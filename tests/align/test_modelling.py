"""Names on the command line become targets, or errors that say what is wrong."""

import json
import os
import sys
from pathlib import Path

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
from tests.kit.scale.watching import alive

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
        "class Scaled:\n"
        "    def __init__(self, scale):\n"
        "        self.scale = scale\n"
        "    def __call__(self, xs):\n"
        "        return [self.scale * len(x) for x in xs]\n"
        "once, twice = Scaled(1.0), Scaled(2.0)\n"
        "def pid(xs):\n"
        "    import os\n"
        "    return [float(os.getpid()) for x in xs]\n"
        "def hang(xs):\n"
        "    import time\n"
        "    time.sleep(60)\n"
        "def counted(xs):\n"
        "    with open('calls', 'a') as file:\n"
        "        file.write('x' * len(xs))\n"
        "    return [float(len(x)) for x in xs]\n"
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


def weight(**options):
    """Log-weights of all 7 outcomes under a target with these options."""
    return build_target(PRIOR, TargetOptions(**options)).log_weight(PRIOR.enumerate())


def length_program(folder):
    path = folder / "score.py"
    path.write_text(
        "import json, sys\nfor line in sys.stdin:\n    print(len(json.loads(line)['text']))\n"
    )
    return f"{sys.executable} {path}"


def test_a_program_is_a_reward_like_the_function_it_copies(evidence_module, tmp_path):
    command = length_program(tmp_path)
    target = build_target(PRIOR, TargetOptions(reward_cmd=command, beta=2.0))
    assert target.names == (command,)
    expected = weight(reward=f"{evidence_module}:length", beta=2.0)
    assert torch.equal(target.log_weight(PRIOR.enumerate()), expected)


def test_the_scale_says_where_a_reward_runs(evidence_module):
    reward = f"{evidence_module}:pid"
    assert set(weight(reward=reward).tolist()) == {os.getpid()}
    target = build_target(PRIOR, TargetOptions(reward=reward, scale="processes:1"))
    (pid,) = set(target.log_weight(PRIOR.enumerate()).tolist())
    assert pid != os.getpid()
    assert alive(int(pid))
    del target
    assert not alive(int(pid)), "workers end with their target"
    with pytest.raises(ConfigError, match="got 'threads:2'"):
        build_target(PRIOR, TargetOptions(reward=reward, scale="threads:2"))


def test_the_timeout_stops_a_function_in_a_worker(evidence_module):
    reward = f"{evidence_module}:hang"
    with pytest.raises(DataError, match=r"hang on batch 0 of 1.*timeout of 0.3 s"):
        weight(reward=reward, scale="processes:1", timeout=0.3)
    with pytest.raises(ConfigError, match="add --scale processes:1"):
        weight(reward=reward, timeout=0.3)


def test_the_timeout_stops_a_program(tmp_path):
    with pytest.raises(DataError, match=r"'sleep 60' on item 0 of 7.*timeout of 0.3 s"):
        weight(reward_cmd="sleep 60", timeout=0.3)


def test_a_cache_file_is_used_until_the_source_changes(evidence_module, tmp_path):
    reward, cache, calls = f"{evidence_module}:counted", tmp_path / "kept.jsonl", tmp_path / "calls"
    first = weight(reward=reward)
    assert torch.equal(weight(reward=reward, reward_cache=cache), first)
    assert len(calls.read_text()) == 14
    assert torch.equal(weight(reward=reward, reward_cache=cache), first)
    assert len(calls.read_text()) == 14, "all 7 come from the file"
    source = tmp_path / f"{evidence_module}.py"
    source.write_text(source.read_text() + "# another version\n")
    weight(reward=reward, reward_cache=cache)
    assert len(calls.read_text()) == 21


def test_a_cache_file_tells_objects_of_one_class_apart(evidence_module, tmp_path):
    once, twice = (
        weight(reward=f"{evidence_module}:{name}", reward_cache=tmp_path / "kept.jsonl")
        for name in ("once", "twice")
    )
    assert torch.equal(twice, 2 * once)


def test_a_cache_file_is_used_until_the_program_changes(tmp_path):
    command, cache = length_program(tmp_path), tmp_path / "kept.jsonl"
    first = weight(reward_cmd=command, reward_cache=cache)
    script = tmp_path / "score.py"
    script.write_text(script.read_text().replace("print(len", "print(2 * len"))
    assert torch.equal(weight(reward_cmd=command, reward_cache=cache), 2 * first)
    assert len(cache.read_text().splitlines()) == 14


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Adds a package that brings rewards under the names given."""

    def install(package, **rewards):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        points = "".join(f"{name} = {value}\n" for name, value in rewards.items())
        (folder / "entry_points.txt").write_text(f"[esscher.rewards]\n{points}")
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_an_installed_reward_is_found_by_its_name(evidence_module, installed):
    installed("brings", shortness=f"{evidence_module}:length")
    assert torch.equal(weight(reward="shortness"), weight(reward=f"{evidence_module}:length"))
    with pytest.raises(ConfigError, match=r"'tallness' is neither .*uses_self, shortness\)"):
        find_function("tallness", "reward")
    with pytest.raises(ConfigError, match=r"built in .*uses_self\)"):
        find_function("shortness", "condition")


def test_installed_rewards_that_are_of_no_use_are_named(installed):
    installed("one", twice="json:dumps", gone="no_such_module_at_all:f", number="math:pi")
    installed("two", twice="json:loads")
    with pytest.raises(ConfigError, match="more than once"):
        find_function("twice", "reward")
    with pytest.raises(ConfigError, match="cannot be imported"):
        find_function("gone", "reward")
    with pytest.raises(ConfigError, match="a float, not a function"):
        find_function("number", "reward")


def test_a_reward_is_a_function_or_a_program():
    with pytest.raises(ConfigError, match="leave one out"):
        build_target(PRIOR, TargetOptions(reward="json:dumps", reward_cmd="cat"))


@pytest.mark.parametrize(
    "setting", [{"scale": "processes:2"}, {"timeout": 1.0}, {"reward_cache": Path("kept.jsonl")}]
)
def test_settings_of_a_reward_need_one(setting):
    with pytest.raises(ConfigError, match="there is none; add --reward"):
        build_target(PRIOR, TargetOptions(condition=("compiles",), **setting))


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
