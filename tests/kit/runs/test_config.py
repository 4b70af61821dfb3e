import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esscher.errors import ConfigError
from esscher.kit.runs.config import config_hash, load_toml, to_toml
from esscher.kit.runs.typed import check_mapping, from_mapping


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    name: Literal["adam", "sgd"] = "adam"


@dataclass(frozen=True)
class Config:
    prompts: tuple[str, ...] = ()
    steps: int = 10
    beta: float = 0.1
    greedy: bool = False
    out: Path | None = None
    limit: int | None = None
    moments: dict[str, float] = field(default_factory=dict)
    optim: Optim = field(default_factory=Optim)
    stages: tuple[Optim, ...] = ()


@dataclass(frozen=True)
class Needy:
    name: str
    optim: Optim = field(default_factory=Optim)


configs = st.builds(
    Config,
    prompts=st.lists(st.text(st.characters(codec="utf-8")), max_size=3).map(tuple),
    steps=st.integers(-(2**63), 2**63 - 1),
    beta=st.floats(allow_nan=False),
    greedy=st.booleans(),
    out=st.none() | st.just(Path("a b/ü.txt")),
    limit=st.none() | st.integers(0, 9),
    moments=st.dictionaries(
        st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False), max_size=3
    ),
    optim=st.builds(Optim, lr=st.floats(allow_nan=False)),
    stages=st.lists(st.builds(Optim), max_size=2).map(tuple),
)


@given(configs)
def test_toml_gives_back_the_same_configuration(config):
    again = from_mapping(Config, tomllib.loads(to_toml(config)))
    assert again == config
    assert config_hash(again) == config_hash(config)


def test_the_text_is_readable():
    text = to_toml(Config(prompts=("a", 'b"')))
    assert text.startswith('prompts = ["a", "b\\""]\nsteps = 10\nbeta = 0.1\ngreedy = false\n')
    assert '\n[optim]\nlr = 0.001\nbetas = [0.9, 0.99]\nname = "adam"\n' in text
    assert "limit" not in text


@pytest.mark.parametrize(
    "change", [{"steps": 11}, {"optim": Optim(lr=0.1)}, {"limit": 0}, {"prompts": ("x",)}]
)
def test_the_hash_sees_every_value(change):
    assert config_hash(dataclasses.replace(Config(), **change)) != config_hash(Config())


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"step": 1}, r"unknown setting 'step' \(did you mean 'steps'\?\)"),
        ({"optim": {"LR": 1}}, r"unknown setting 'optim.LR'"),
        ({"optim": {"beta": 1}}, r"'optim.beta' \(did you mean 'betas'\?\)"),
        ({"steps": 1.5}, r"steps must be of type int, got 1.5 \(float\)"),
        ({"steps": True}, r"steps must be of type int, got True"),
        ({"beta": "0.1"}, r"beta must be of type float, got '0.1'"),
        ({"greedy": 1}, r"greedy must be of type bool"),
        ({"prompts": "abc"}, r"prompts must be a list"),
        ({"prompts": [1]}, r"prompts\[0\] must be of type str"),
        ({"optim": {"betas": [1.0]}}, r"optim.betas must have 2 items, got 1"),
        ({"optim": {"name": "adamm"}}, r"one of 'adam', 'sgd', got 'adamm' \(did you mean 'adam'"),
        ({"optim": 3}, r"optim must be a table of Optim settings"),
        ({"moments": {"x": "y"}}, r"moments.x must be of type float"),
        ({"moments": 1}, r"moments must be a table"),
        ({"limit": "x"}, r"limit must be of type int"),
        ({"stages": [{"lrr": 1}]}, r"unknown setting 'stages\[0\].lrr'"),
    ],
)
def test_a_wrong_setting_is_named(mapping, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Config, mapping)
    with pytest.raises(ConfigError, match=message):
        check_mapping(Config, mapping)


def test_whole_numbers_are_floats_and_nested_dataclasses_pass():
    config = from_mapping(Config, {"beta": 1, "optim": Optim(lr=2.0)})
    assert type(config.beta) is float
    assert config.optim.lr == 2.0


def test_a_required_setting_is_asked_for_unless_only_checked():
    with pytest.raises(ConfigError, match="Needy needs a value for 'name'"):
        from_mapping(Needy, {})
    check_mapping(Needy, {"optim": {"lr": 1}})
    with pytest.raises(ConfigError, match=r"optim\.lr must be"):
        check_mapping(Needy, {"optim": {"lr": "x"}})


@pytest.mark.parametrize("value", [math.nan, object(), {1, 2}])
def test_what_toml_cannot_hold_is_refused(value):
    with pytest.raises(ConfigError, match="optim"):
        to_toml(Config(optim=value))


@pytest.mark.parametrize("config", [{"a": 1}, Config, None])
def test_only_dataclass_instances_are_configurations(config):
    with pytest.raises(ConfigError, match="instance of a dataclass"):
        to_toml(config)


def test_files_that_are_missing_or_broken_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none.toml"):
        load_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_toml(tmp_path / "bad.toml")
