"""Configuration of offline learning: TD3 with exchangeable parts, and baselines."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from esscher.errors import ConfigError
from esscher.kit.rl.td3 import TD3Config
from esscher.kit.runs.typed import nearest

__all__ = ["CONFIGURATIONS", "DensityConfig", "OfflineConfig", "configuration"]


@dataclass(frozen=True)
class DensityConfig:
    """The fitted density of the behaviour policies, π_b(a|s)."""

    kind: Literal["mdn", "gaussian", "cvae", "flow"] = "mdn"
    """Mixture density network; one Gaussian; conditional autoencoder (a bound); coupling flow."""
    components: int = 8
    """Gaussians of the mixture."""
    std_floor: float = 0.05
    """Least standard deviation, in units of half the action box."""
    width: int = 256
    """Units of each of two hidden layers."""
    steps: int = 20_000
    """Most gradient steps; fewer where the held-out likelihood stops growing."""
    batch: int = 512
    """Transitions per step."""
    lr: float = 1e-3
    """First learning rate; it falls to a tenth along a cosine."""
    held_out: float = 0.05
    """Share of transitions kept for early stopping, in (0, 0.5]."""

    def __post_init__(self) -> None:
        for name in ("components", "width", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"DensityConfig.{name} must be >= 1, got {getattr(self, name)}")
        for name in ("std_floor", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(
                    f"DensityConfig.{name} must be positive, got {getattr(self, name)}"
                )
        if not 0 < self.held_out <= 0.5:
            raise ConfigError(f"DensityConfig.held_out must be in (0, 0.5], got {self.held_out}")


@dataclass(frozen=True)
class OfflineConfig:
    """One learner. The actor descends -λ Q + penalty · w(s) · R(s, π(s)), λ = α / mean |Q|."""

    algorithm: Literal["td3", "bc", "iql", "cql"] = "td3"
    """TD3 with the parts below; behaviour cloning; implicit and conservative Q-learning."""
    regulariser: Literal["none", "mse", "reverse_kl"] = "reverse_kl"
    """R: nothing; squared distance to the data's action; -log π_b of the actor's action / m."""
    weight: Literal["none", "entropy", "within_var", "dual"] = "entropy"
    """w(s): 1; by the density's entropy; by its components' variance; a learnt multiplier."""
    alpha: float = 2.5
    """Scale of Q against the regulariser, >= 0."""
    penalty: float = 1.0
    """Factor of the regulariser, >= 0."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over the action's dimensions."""
    critic_penalty: float = 0.0
    """Factor of the regulariser in the critic's target, >= 0."""
    policy_std: float = 0.05
    """Width s_π of the actor as the reverse KL sees it; 0 seeks the highest mode."""
    weight_beta: float = 1.0
    """How strongly the entropy counts in the weight."""
    weight_range: tuple[float, float] = (0.1, 10.0)
    """The weight is clipped to this before it is scaled to mean 1."""
    entropy_draws: int = 16
    """Actions drawn per state for its entropy."""
    gradient_clip: float = 10.0
    """Largest norm of a sample's gradient of R; inf for none."""
    kl_budget: float = 1.0
    """Of the dual weight: KL(π‖π_b) per action dimension it allows, nats."""
    warm_start: int = 0
    """First steps, in which the actor follows the density's best mode by Q."""
    top_share: float = 1.0
    """Share of episodes, by return, that is learnt from, in (0, 1]."""
    expectile: float = 0.7
    """Of implicit Q-learning, in (0.5, 1)."""
    temperature: float = 3.0
    """Of implicit Q-learning: factor of the advantage."""
    conservative_weight: float = 5.0
    """Of conservative Q-learning: factor of the critics' penalty, >= 0."""
    conservative_budget: float = 10.0
    """Of it: weight × penalty above which the penalty's multiplier grows."""
    conservative_draws: int = 10
    """Of it: actions drawn per state and proposal, >= 1."""
    steps: int = 100_000
    """Gradient steps."""
    td3: TD3Config = field(default_factory=TD3Config)
    """Networks, rates and targets."""
    density: DensityConfig = field(default_factory=DensityConfig)
    """The behaviour density, where one is needed."""

    def __post_init__(self) -> None:
        for name in (
            "alpha", "penalty", "critic_penalty", "policy_std", "warm_start", "conservative_weight",
        ):  # fmt: skip
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"OfflineConfig.{name} must be >= 0, got {getattr(self, name)}")
        for name, least in (("steps", 1), ("entropy_draws", 2), ("conservative_draws", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"OfflineConfig.{name} must be >= {least}, got {getattr(self, name)}"
                )
        low, high = self.weight_range
        if not 0 < low <= 1 <= high:
            raise ConfigError(f"OfflineConfig.weight_range must enclose 1, got {self.weight_range}")
        if not 0 < self.top_share <= 1:
            raise ConfigError(f"OfflineConfig.top_share must be in (0, 1], got {self.top_share}")
        if not 0.5 < self.expectile < 1:
            raise ConfigError(f"OfflineConfig.expectile must be in (0.5, 1), got {self.expectile}")
        if not self.gradient_clip > 0:
            raise ConfigError(f"OfflineConfig.gradient_clip must be > 0, got {self.gradient_clip}")
        if self.weight != "none" and self.regulariser != "reverse_kl" and self.algorithm == "td3":
            raise ConfigError(
                f"weight={self.weight!r} needs the density of regulariser='reverse_kl'; with "
                f"{self.regulariser!r} take weight='none'"
            )
        if self.weight == "within_var" and self.density.kind not in ("mdn", "gaussian"):
            raise ConfigError(
                "weight='within_var' needs a density with components (mdn or gaussian), got "
                f"{self.density.kind!r}"
            )

    @property
    def needs_density(self) -> bool:
        """Whether a behaviour density has to be fitted."""
        return self.algorithm == "td3" and (self.regulariser == "reverse_kl" or self.warm_start > 0)


_MSE: dict[str, Any] = {"regulariser": "mse", "weight": "none"}

CONFIGURATIONS: dict[str, OfflineConfig] = {
    "td3_rkl": OfflineConfig(warm_start=1000),
    "td3_rkl_unweighted": OfflineConfig(weight="none", warm_start=1000),
    "td3_bc": OfflineConfig(**_MSE),
    "rebrac": OfflineConfig(
        **_MSE,
        alpha=1.0,
        penalty=0.01,
        reduction="sum",
        critic_penalty=0.01,
        td3=TD3Config(lr_actor=1e-3, lr_critic=1e-3, batch=1024, depth=3, critic_norm=True),
    ),
    "brac": OfflineConfig(
        weight="none", critic_penalty=0.1, density=DensityConfig(kind="gaussian")
    ),
    "spot": OfflineConfig(weight="none", policy_std=0.0, density=DensityConfig(kind="cvae")),
    "td3": OfflineConfig(regulariser="none", weight="none"),
    "bc": OfflineConfig(algorithm="bc", **_MSE),
    "bc_top10": OfflineConfig(algorithm="bc", **_MSE, top_share=0.1),
    "iql": OfflineConfig(algorithm="iql", **_MSE),
    "cql": OfflineConfig(algorithm="cql", **_MSE, td3=TD3Config(lr_actor=1e-4)),
}
"""Learners by name; `td3_rkl` is the weighted reverse KL with warm start."""


def configuration(name: str, **changes: Any) -> OfflineConfig:
    """A learner by name, with settings changed; those of `td3` and `density` by double underscore.

    Args:
        name: a key of `CONFIGURATIONS`.
        changes: such as `alpha=1.0` or `td3__width=64`.

    Raises:
        ConfigError: if there is no such learner or setting; the nearest is named.
    """
    if name not in CONFIGURATIONS:
        known = list(CONFIGURATIONS)
        raise ConfigError(f"no learner {name!r}{nearest(name, known)}; there are: {known}")
    config = CONFIGURATIONS[name]
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {"td3": {}, "density": {}}
    for key, value in changes.items():
        part, cut, rest = key.partition("__")
        (inner[part] if cut and part in inner else own)[rest if cut and part in inner else key] = (
            value
        )
    for part, values in inner.items():
        if values:
            own[part] = _changed(own.get(part, getattr(config, part)), values)
    changed: OfflineConfig = _changed(config, own)
    return changed


def _changed(config: Any, values: dict[str, Any]) -> Any:
    names = list(config.__dataclass_fields__)
    for key in values:
        if key not in names:
            raise ConfigError(
                f"unknown setting {key!r}{nearest(key, names)} of {type(config).__name__}"
            )
    return replace(config, **values)
