"""Configuration of learning to branch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from esscher.branch.learners.dqn import DQNConfig
from esscher.branch.learners.imitation import ImitationConfig
from esscher.branch.learners.reinforce import ReinforceConfig
from esscher.branch.network import NetworkConfig
from esscher.branch.trajectories import Select
from esscher.errors import ConfigError
from esscher.kit.runs.typed import nearest

__all__ = ["METHODS", "Budget", "Exploration", "Imitation", "TrainConfig", "configuration"]

Method = Literal["retro", "fmsts", "fmsts_path", "original", "tmdp", "imitation"]


@dataclass(frozen=True)
class Budget:
    """When training ends, and how often it is looked at."""

    minutes: float = 30.0
    """Of wall clock, validation included; inf for none."""
    episodes: int | None = None
    """Training instances; none if None."""
    validation: int = 20
    """Instances on which the policy is measured, >= 2."""
    every: float = 5.0
    """Minutes between measurements, while there is no number of episodes; there are 10 with one."""
    max_decisions: int = 400
    """Decisions after which a training solve is stopped; what is finished of its tree is used."""

    def __post_init__(self) -> None:
        if not self.minutes > 0 or not self.every > 0:
            raise ConfigError(f"Budget.minutes and .every must be > 0, got {self}")
        if self.episodes is None and math.isinf(self.minutes):
            raise ConfigError("Budget needs minutes or episodes")
        for name, least in (("validation", 2), ("max_decisions", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"Budget.{name} must be >= {least}, got {getattr(self, name)}")
        if self.episodes is not None and self.episodes < 1:
            raise ConfigError(f"Budget.episodes must be >= 1, got {self.episodes}")


@dataclass(frozen=True)
class Exploration:
    """Chance of a random candidate, and of what Q-learning does with what it saw."""

    first: float = 0.25
    """Chance at first, in [0, 1]."""
    last: float = 0.05
    """Chance from `until` of the budget on, in [0, 1]."""
    until: float = 0.2
    """Share of the budget in which it falls from one to the other, in (0, 1]."""
    capacity: int = 20_000
    """Transitions remembered."""
    warm_up: int = 500
    """Transitions before the first gradient step."""
    per_step: int = 4
    """Transitions added per gradient step."""
    prioritised: bool = False
    """Replay large errors more often (Schaul et al. 2016)."""
    lr_last: float = 0.3
    """Learning rate at the budget's end over that at its beginning, in (0, 1]."""

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"Exploration.{name} is in [0, 1], got {getattr(self, name)}")
        for name in ("until", "lr_last"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"Exploration.{name} is in (0, 1], got {getattr(self, name)}")
        for name in ("capacity", "warm_up", "per_step"):
            if getattr(self, name) < 1:
                raise ConfigError(f"Exploration.{name} must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Imitation:
    """How an expert's decisions are gathered."""

    samples: int = 5000
    """Decisions of strong branching, of which a sixth is held out."""
    chance: float = 0.05
    """At a node the expert is asked, and followed; pseudocosts decide at the others."""

    def __post_init__(self) -> None:
        if self.samples < 6 or not 0 < self.chance <= 1:
            raise ConfigError(
                f"Imitation needs samples >= 6 and chance in (0, 1], got {self.samples} and "
                f"{self.chance}"
            )


@dataclass(frozen=True)
class TrainConfig:
    """One learner of branching."""

    method: Method = "retro"
    """Q-learning on retrospective paths; regression of sub-tree sizes (FMSTS), also by path lengths
    as retro's authors had it; Q-learning on the solve as it went; policy gradients in the tree MDP;
    imitation of strong branching."""
    problem: str = "setcover-165x230"
    """A class of instances by name, a file, or a folder of files."""
    settings: str = "bare"
    """SCIP's parameters; see `esscher.branch.settings`."""
    selector: str = "default"
    """Node selection while training."""
    select: Select = "max_leaf_lp_gain"
    """Where retrospective paths lead; see `esscher.branch.trajectories`."""
    gamma: float = 0.99
    """Discount per step of a path, in [0, 1]."""
    n_step: int = 1
    """Rewards summed before the value of what follows, >= 1."""
    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(width=32, output="linear", head="dueling")
    )
    """Architecture and features."""
    dqn: DQNConfig = field(default_factory=lambda: DQNConfig(lr=1e-3, batch=32, tau=0.002))
    """Of Q-learning and the regression."""
    reinforce: ReinforceConfig = field(default_factory=ReinforceConfig)
    """Of policy gradients."""
    imitation: Imitation = field(default_factory=Imitation)
    """Gathering of an expert's decisions."""
    cloning: ImitationConfig = field(default_factory=ImitationConfig)
    """Fitting of them."""
    exploration: Exploration = field(default_factory=Exploration)
    """Random decisions and memory."""
    budget: Budget = field(default_factory=Budget)
    """Time."""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1 or self.n_step < 1:
            raise ConfigError(
                f"TrainConfig needs gamma in [0, 1] and n_step >= 1, got {self.gamma} and "
                f"{self.n_step}"
            )
        chooses = self.method in ("tmdp", "imitation")
        if (self.network.output == "logit") != chooses:
            wanted = "'logit'" if chooses else "'value' or 'linear'"
            raise ConfigError(
                f"method {self.method!r} needs network.output={wanted}, got {self.network.output!r}"
            )


_LOGIT = NetworkConfig(width=32, output="logit")
_LOG = DQNConfig(lr=1e-3, batch=32, tau=0.002, space="log")

METHODS: dict[str, TrainConfig] = {
    "retro": TrainConfig(),
    "fmsts": TrainConfig("fmsts", selector="dfs", dqn=_LOG),
    "fmsts_path": TrainConfig("fmsts_path", selector="dfs", dqn=_LOG),
    "original": TrainConfig("original"),
    "tmdp": TrainConfig(
        "tmdp",
        selector="dfs",
        network=_LOGIT,
        reinforce=ReinforceConfig(lr=1e-4, sample_rate=0.5),
    ),
    "imitation": TrainConfig("imitation", network=_LOGIT),
}
"""By name, at a size that learns within minutes on two cores. `published` changes them to what the
authors of retro branching released."""

_PUBLISHED: dict[str, Any] = {
    "network": NetworkConfig("retro43", 64, "legacy", init="normal"),
    "dqn": DQNConfig(),
    "exploration": Exploration(
        0.025, 0.025, 1.0, capacity=100_000, warm_up=20_000, per_step=10, lr_last=1.0
    ),
    "n_step": 3,
    "settings": "gasse",
    "problem": "setcover-500x1000",
}


def configuration(method: str, *, published: bool = False, **changes: Any) -> TrainConfig:
    """A learner by name, with settings changed; inner ones by double underscore.

    Args:
        method: a key of `METHODS`.
        published: sizes and rates of the released configuration, for GPU-days.
        changes: such as `problem="auction-10x50"` or `budget__minutes=5`.

    Raises:
        ConfigError: if there is no such method or setting; the nearest is named.
    """
    if method not in METHODS:
        raise ConfigError(
            f"no method {method!r}{nearest(method, list(METHODS))}; there are: {list(METHODS)}"
        )
    config = METHODS[method]
    if published:
        output = "logit" if config.network.output == "logit" else "value"
        network = replace(_PUBLISHED["network"], output=output)
        config = replace(config, **_PUBLISHED | {"network": network})
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        part, cut, rest = key.partition("__")
        _known(config, part)
        if cut:
            _known(getattr(config, part), rest)
            inner.setdefault(part, {})[rest] = value
        else:
            own[key] = value
    own |= {part: replace(getattr(config, part), **values) for part, values in inner.items()}
    return replace(config, **own)


def _known(config: Any, key: str) -> None:
    names = list(config.__dataclass_fields__)
    if key not in names:
        raise ConfigError(
            f"unknown setting {key!r}{nearest(key, names)} of {type(config).__name__}"
        )
