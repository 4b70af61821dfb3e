"""f-divergences as data: D_f(pi || p*) = E_{p*}[f(t)], t = pi / p*, all in terms of log t.

Conventions (f convex, f(1) = 0; f'(inf) is the slope where p* = 0):

    name          f(t)                            f'(t)                    f(0)     f'(inf)
    forward_kl    -log t                          -1/t                     inf      0
    reverse_kl    t log t                         log t + 1                0        inf
    js            (t log t - (t+1) log(t/2+1/2))/2  log(2t / (t+1)) / 2    log(2)/2 log(2)/2
    tv            |t - 1| / 2                     sign(t - 1) / 2          1/2      1/2
    chi2_forward  (1 - t)^2 / t                   1 - 1/t^2                inf      1
    chi2_reverse  (t - 1)^2                       2 (t - 1)                1        inf
    hellinger     (1 - sqrt t)^2                  1 - 1/sqrt t             1        1
    alpha:a       (t^a - a t - 1 + a)/(a (a-1))   (t^(a-1) - 1)/(a - 1)    1/a      1/(1-a)

For alpha, f(0) = inf if a < 0 and f'(inf) = inf if a > 1. Forward means KL(p* || pi): the model is
the second argument; reverse means KL(pi || p*), the objective of KL-regularised RL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import softplus

from esscher.errors import ConfigError

__all__ = ["DIVERGENCES", "LOG2", "Divergence", "alpha_divergence", "get_divergence"]

LOG2 = math.log(2.0)
Curve = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Divergence:
    """An f-divergence as functions of u = log t = log pi - log p*.

    Attributes:
        name: key in `DIVERGENCES`, or "alpha:<value>".
        title: for reports.
        formula: f(t) as text.
        f: u -> f(t).
        mirror: u -> g(t) where f(t) = t g(1/t); g is the f of the divergence with its arguments
            exchanged, and keeps values exact where t is too large for a float.
        slope: u -> f'(t); minus this is the pseudo-reward of a sample.
        scaled_slope: u -> t f'(t), the slope where t is too small for a float.
        at_zero: f(0), nats or units of f; the price of target mass the model misses.
        slope_at_zero_target: f'(inf), the slope where p* = 0.

    Reference:
        Go, Korbak, Kruszewski, Rozen, Ryu, Dymetman (2023), table 1.
    """

    name: str
    title: str
    formula: str
    f: Curve
    mirror: Curve
    slope: Curve
    scaled_slope: Curve
    at_zero: float
    slope_at_zero_target: float

    @property
    def needs_floor(self) -> bool:
        """Whether it is infinite as soon as the model puts mass where the target has none."""
        return math.isinf(self.slope_at_zero_target)


def _js(u: Tensor) -> Tensor:
    t = u.exp()
    return 0.5 * ((1 + t) * LOG2 - t * softplus(-u) - softplus(u))


def _tv(u: Tensor) -> Tensor:
    return 0.5 * torch.expm1(u).abs()


def _square(u: Tensor) -> Tensor:
    return torch.expm1(u) ** 2


def _neyman(u: Tensor) -> Tensor:
    return -torch.expm1(u) * torch.expm1(-u)


def _hellinger(u: Tensor) -> Tensor:
    return torch.expm1(u / 2) ** 2


_KNOWN = (
    Divergence(
        name="forward_kl",
        title="KL(p*‖π)",
        formula="-log t",
        f=lambda u: -u,
        mirror=lambda u: u * u.exp(),
        slope=lambda u: -torch.exp(-u),
        scaled_slope=lambda u: -torch.ones_like(u),
        at_zero=math.inf,
        slope_at_zero_target=0.0,
    ),
    Divergence(
        name="reverse_kl",
        title="KL(π‖p*)",
        formula="t log t",
        f=lambda u: u * u.exp(),
        mirror=lambda u: -u,
        slope=lambda u: u + 1,
        scaled_slope=lambda u: u.exp() * (u + 1),
        at_zero=0.0,
        slope_at_zero_target=math.inf,
    ),
    Divergence(
        name="js",
        title="JS(π,p*)",
        formula="(t log t - (t+1) log((t+1)/2)) / 2",
        f=_js,
        mirror=_js,
        slope=lambda u: 0.5 * (LOG2 - softplus(-u)),
        scaled_slope=lambda u: 0.5 * u.exp() * (LOG2 - softplus(-u)),
        at_zero=0.5 * LOG2,
        slope_at_zero_target=0.5 * LOG2,
    ),
    Divergence(
        name="tv",
        title="TV(π,p*)",
        formula="|t - 1| / 2",
        f=_tv,
        mirror=_tv,
        slope=lambda u: 0.5 * u.sign(),
        scaled_slope=lambda u: 0.5 * u.exp() * u.sign(),
        at_zero=0.5,
        slope_at_zero_target=0.5,
    ),
    Divergence(
        name="chi2_forward",
        title="χ²(p*‖π)",
        formula="(1 - t)² / t",
        f=_neyman,
        mirror=_square,
        slope=lambda u: -torch.expm1(-2 * u),
        scaled_slope=lambda u: u.exp() - torch.exp(-u),
        at_zero=math.inf,
        slope_at_zero_target=1.0,
    ),
    Divergence(
        name="chi2_reverse",
        title="χ²(π‖p*)",
        formula="(t - 1)²",
        f=_square,
        mirror=_neyman,
        slope=lambda u: 2 * torch.expm1(u),
        scaled_slope=lambda u: 2 * u.exp() * torch.expm1(u),
        at_zero=1.0,
        slope_at_zero_target=math.inf,
    ),
    Divergence(
        name="hellinger",
        title="H²(π,p*)",
        formula="(1 - √t)²",
        f=_hellinger,
        mirror=_hellinger,
        slope=lambda u: -torch.expm1(-u / 2),
        scaled_slope=lambda u: u.exp() - torch.exp(u / 2),
        at_zero=1.0,
        slope_at_zero_target=1.0,
    ),
)

DIVERGENCES: Mapping[str, Divergence] = MappingProxyType({d.name: d for d in _KNOWN})
"""The named divergences; `get_divergence` also knows the alpha family."""


def alpha_divergence(alpha: float) -> Divergence:
    """Amari's family; alpha 0 and 1 are its limits, forward and reverse KL.

    Args:
        alpha: any finite number; the model may leave the target's support iff alpha <= 1, and
            must cover all of it iff alpha <= 0.

    Raises:
        ConfigError: if alpha is not finite.
    """
    a = float(alpha)
    if not math.isfinite(a):
        raise ConfigError(f"alpha must be a finite number, got {alpha}")
    if a in (0.0, 1.0):
        return DIVERGENCES["reverse_kl" if a else "forward_kl"]
    return Divergence(
        name=f"alpha:{a:g}",
        title=f"D_α(π,p*), α={a:g}",
        formula="(t^α - αt - 1 + α) / (α(α-1))",
        f=_alpha(a),
        mirror=_alpha(1 - a),
        slope=lambda u: torch.expm1((a - 1) * u) / (a - 1),
        scaled_slope=lambda u: (torch.exp(a * u) - u.exp()) / (a - 1),
        at_zero=1 / a if a > 0 else math.inf,
        slope_at_zero_target=1 / (1 - a) if a < 1 else math.inf,
    )


def _alpha(a: float) -> Curve:
    return lambda u: (torch.expm1(a * u) - a * torch.expm1(u)) / (a * (a - 1))


def get_divergence(name: str) -> Divergence:
    """The divergence called name: a key of `DIVERGENCES` or "alpha:0.5".

    Raises:
        ConfigError: naming the nearest known name.
    """
    if name in DIVERGENCES:
        return DIVERGENCES[name]
    family, _, value = name.partition(":")
    if family == "alpha":
        try:
            return alpha_divergence(float(value))
        except ValueError:
            raise ConfigError(f"expected alpha:<number>, such as alpha:0.5, got {name!r}") from None
    near = get_close_matches(name, DIVERGENCES, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(
        f"unknown divergence {name!r}; {hint}"
        f"Known: {', '.join(sorted(DIVERGENCES))}, alpha:<number>"
    )
