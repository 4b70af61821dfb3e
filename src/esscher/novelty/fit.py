"""Stage 2: the posterior of a batch, from several starts, the highest bound kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from esscher.errors import ConfigError, DataError
from esscher.novelty.cavi import Fit, ascend
from esscher.novelty.model import GammaPrior, Prior
from esscher.novelty.moves import improve
from esscher.novelty.niw import NIW, Array
from esscher.novelty.starts import STARTS, Start
from esscher.novelty.sweep import Batch

__all__ = ["Ascent", "SearchConfig", "Tried", "prior_of", "search", "truncated"]


@dataclass(frozen=True)
class SearchConfig:
    """How the optimum is looked for.

    Attributes:
        start: where ascents begin.
        n_starts: how many ascents, at least 1.
        moves: whether merges and splits follow.
        max_iter: most sweeps of one ascent.
        tol: nats per row below which a sweep is the last.
        seed: of the starts.
    """

    start: Start = "outlying"
    n_starts: int = 10
    moves: bool = True
    max_iter: int = 1000
    tol: float = 1e-7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ConfigError(f"start must be one of {', '.join(STARTS)}, got {self.start!r}")
        if self.n_starts < 1 or self.max_iter < 1 or not self.tol > 0:
            raise ConfigError(
                "n_starts and max_iter must be at least 1 and tol positive, got "
                f"{self.n_starts}, {self.max_iter} and {self.tol}"
            )


class Ascent(NamedTuple):
    """What one start led to, for the table of starts.

    Attributes:
        number: of the start.
        elbo: nats.
        sweeps: in all.
        converged: whether it stood still at the end.
        clusters: novel atoms that at least one row calls its own.
        path: the bound after every sweep.
    """

    number: int
    elbo: float
    sweeps: int
    converged: bool
    clusters: int
    path: list[float]


class Tried(NamedTuple):
    """The best fit, and all ascents."""

    best: Fit
    ascents: list[Ascent]


def search(
    prior: Prior,
    y: Array,
    config: SearchConfig,
    *,
    n_jobs: int | None = None,
    so_far: Tried | None = None,
    on_start: Callable[[Tried], None] | None = None,
) -> Tried:
    """Ascend from every start and keep the highest bound.

    Args:
        prior: the model.
        y: [M, p] rows of the batch, M >= 1.
        config: settings.
        n_jobs: processes at once, as in joblib; the result does not depend on it.
        so_far: what the first starts of the same search led to; they are not tried again.
        on_start: called after every start with what all led to so far.

    Raises:
        DataError: if there are no rows, or they are not finite.
    """
    if y.ndim != 2 or not len(y):
        raise DataError(f"the batch must be [M, p] with at least one row, got {y.shape}")
    if not bool(np.isfinite(y).all()):
        raise DataError("the batch holds NaN or infinite values")
    prior = truncated(prior, len(y))
    found = so_far
    rest = range(0 if found is None else len(found.ascents), config.n_starts)
    for number, fit in zip(rest, _fits(prior, y, config, rest, n_jobs), strict=True):
        told = [] if found is None else found.ascents
        best = fit if found is None or fit.elbo > found.best.elbo else found.best
        found = Tried(best, [*told, _summary(number, fit, prior.n_known)])
        if on_start is not None:
            on_start(found)
    assert found is not None
    return found


def _fits(
    prior: Prior, y: Array, config: SearchConfig, numbers: Iterable[int], n_jobs: int | None
) -> Iterator[Fit]:
    """The fits of some starts, in their order."""
    if n_jobs in (None, 1):
        return (_ascent(prior, y, config, number) for number in numbers)
    from joblib import Parallel, delayed  # noqa: PLC0415 - it comes with scikit-learn

    work = (delayed(_ascent)(prior, y, config, number) for number in numbers)
    fits: Iterator[Fit] = Parallel(n_jobs=n_jobs, return_as="generator")(work)
    return fits


def truncated(prior: Prior, rows: int) -> Prior:
    """The same with no more atoms than rows."""
    if prior.truncation <= rows:
        return prior
    kept = prior.components.take(slice(prior.n_known + rows))
    return Prior(kept, prior.n_known, prior.dirichlet, prior.concentration)


def _ascent(prior: Prior, y: Array, config: SearchConfig, number: int) -> Fit:
    rng = np.random.default_rng([config.seed, number])
    batch = Batch(y)
    phi = STARTS[config.start](prior, y, rng, number)
    fit = ascend(prior, batch, phi, max_iter=config.max_iter, tol=config.tol)
    if not config.moves:
        return fit
    return improve(prior, batch, fit, max_iter=config.max_iter, tol=config.tol)


def _summary(number: int, fit: Fit, n_known: int) -> Ascent:
    own = np.unique(fit.phi.argmax(1))
    clusters = int((own >= n_known).sum())
    return Ascent(number, fit.elbo, len(fit.path), fit.converged, clusters, fit.path)


def prior_of(
    known: NIW, novel: NIW, truncation: int, dirichlet: float, concentration: float | GammaPrior
) -> Prior:
    """T copies of one novel law behind the known ones, and equal Dirichlet parameters."""
    atoms = novel.take(np.zeros(truncation, dtype=np.int64))
    alpha = np.full(len(known) + 1, float(dirichlet))
    return Prior(NIW.stack(known, atoms), len(known), alpha, concentration)
