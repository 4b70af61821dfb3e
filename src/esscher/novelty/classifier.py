"""The scikit-learn face: known classes, novelties and their clusters in one estimator."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esscher.errors import ConfigError, DataError
from esscher.kit.require import require
from esscher.novelty.fit import Ascent, SearchConfig, prior_of
from esscher.novelty.inference import INFERENCES, Found, Inference, Task, Trace
from esscher.novelty.keeping import InUnits, Keeper
from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.naming import Rule, components_of, joint_of, labels_of, novelty_label
from esscher.novelty.niw import NIW, Array, Index
from esscher.novelty.predictive import Predicted, mixture_of, predict
from esscher.novelty.robust import ClassEstimate, Method, class_estimate
from esscher.novelty.settings import (
    NIWPrior,
    automatic_prior,
    dirichlet_of,
    inductive,
    known_laws,
    novel_law,
)
from esscher.novelty.starts import Start

require("sklearn", extra="sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402 - behind the gate above
from sklearn.utils import check_random_state  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

__all__ = ["NoveltyClassifier"]


class NoveltyClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Known classes, a probability of being none of them, and clusters of what is none of them.

    Stage 1 estimates each labelled class robustly. Stage 2 fits a mixture of these classes and a
    Dirichlet process of novelties to an unlabelled batch, by variational inference or by Markov
    chain Monte Carlo: either the rows of `fit` whose label is `unlabelled`, or those of
    `fit_novel`. Without a batch the classes stand as stage 1 left them, and far rows are novel.

    Args:
        inference: "vb" climbs the evidence lower bound, "svi" the same for very many rows, from a
            fit of 20,000 of them; "gibbs" and "slice" sample, far slower, with P(novel) a share of
            draws. The slice sampler needs no truncation.
        truncation: most novel clusters, >= 1.
        dirichlet_prior: α > 0 of novelties and classes alike, or [J + 1] with the novelties' first.
        stick_concentration: γ > 0, larger for more clusters; "gamma" learns it.
        known_trust: how many observations stage 1 is worth in stage 2, per class, > 0, but no
            more than the class has training rows.
        novel_prior: law of a novelty's mean and covariance; "auto" derives it from the classes.
        robust: "mcd", "mrcd" or "empirical" estimates in stage 1.
        support_fraction: share of a class's rows these keep, in [0.5, 1]; None for the default.
        transductive: whether the batch, too, says where the known classes are; otherwise they stay
            as stage 1 left them.
        start: where ascents and chains begin: "outlying", "kmeans" (as published), "random" or
            "prior".
        n_init: ascents, of which the highest bound is kept, >= 1.
        moves: whether merges and splits follow each.
        max_iter: most sweeps of an ascent.
        tol: nats per row below which a sweep is the last.
        n_samples: draws of a chain, >= 1.
        burn_in: its sweeps before them, >= 0.
        rule: "summed" calls a row novel where P(novel) > 1/2; "argmax" where its most probable
            component is novel.
        scale: whether columns are centred and scaled by the classes' estimates first.
        unlabelled: label that marks rows of the batch in `fit`; None for no such rows.
        novelty_label: what `predict` calls novelties; None for "novel" among strings and a number
            below all classes, -1 or less, among numbers.
        n_jobs: processes at once; results do not depend on it.
        random_state: seed of stage 1, of the starts and of a chain.

    Attributes:
        classes_: [J] labels.
        novelty_label_: what `predict` calls novelties.
        robust_: the J estimates of stage 1, in the units of the data.
        centre_, unit_: what columns are shifted and divided by before stage 2.
        prior_, posterior_: of stage 2, in scaled units; after a chain the posterior is the
            conjugate one of its partition.
        predictive_: the mixture that further rows are held against.
        seed_: what random_state came to.
        responsibilities_: [M, J + T] of the batch; after a chain [M, J + C + 1], see `inference`;
            None without a batch.
        elbo_, elbo_path_: of the best ascent, nats, in the units of the data; None without one.
        converged_: whether it stood still, or the chain settled; None without a batch.
        n_iter_: sweeps; 1 without a batch.
        n_novel_clusters_: clusters that at least one row of the batch is called by.
        starts_: one record per ascent.
        trace_: of a chain; None without one.
        n_features_in_: p.

    Reference: Benedetti et al. (2023), Advances in Data Analysis and Classification,
    doi 10.1007/s11634-023-00569-z.
    """

    def __init__(
        self,
        *,
        inference: Inference = "vb",
        truncation: int = 20,
        dirichlet_prior: float | ArrayLike = 0.1,
        stick_concentration: float | Literal["gamma"] = 5.0,
        known_trust: float = 50.0,
        novel_prior: Literal["auto"] | NIWPrior = "auto",
        robust: Method = "mcd",
        support_fraction: float | None = None,
        transductive: bool = True,
        start: Start = "outlying",
        n_init: int = 10,
        moves: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-7,
        n_samples: int = 1000,
        burn_in: int = 1000,
        rule: Rule = "summed",
        scale: bool = True,
        unlabelled: Any = None,
        novelty_label: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.inference = inference
        self.truncation = truncation
        self.dirichlet_prior = dirichlet_prior
        self.stick_concentration = stick_concentration
        self.known_trust = known_trust
        self.novel_prior = novel_prior
        self.robust = robust
        self.support_fraction = support_fraction
        self.transductive = transductive
        self.start = start
        self.n_init = n_init
        self.moves = moves
        self.max_iter = max_iter
        self.tol = tol
        self.n_samples = n_samples
        self.burn_in = burn_in
        self.rule = rule
        self.scale = scale
        self.unlabelled = unlabelled
        self.novelty_label = novelty_label
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Stage 1 on the labelled rows, and stage 2 on the rows marked `unlabelled`, if any.

        Raises:
            ConfigError: if a setting is out of range or the novelties' label is a class.
            DataError: if rows are not finite, no row is labelled, or a class has one row.
        """
        self._check_settings()
        checked = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        rows: Array = checked[0]
        labels: NDArray[Any] = checked[1]
        check_classification_targets(labels)
        known = np.ones(len(labels), dtype=np.bool_)
        if self.unlabelled is not None:
            known = np.asarray(labels != self.unlabelled)
        if not bool(known.any()):
            raise DataError(f"no row is labelled: all {len(labels)} labels are {self.unlabelled!r}")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._learn_classes(rows[known], labels[known], seed)
        if not bool(known.all()):
            self._fit_batch(rows[~known])
        return self

    def fit_novel(self, X: ArrayLike, *, keeper: Keeper | None = None) -> Self:
        """Stage 2 on an unlabelled batch, after `fit`; an earlier batch is forgotten.

        Args:
            X: [M, p] its rows.
            keeper: hears of every ascent or block of sweeps, and may know those of an earlier try.

        Raises:
            DataError: if rows are not finite.
        """
        check_is_fitted(self)
        self._fit_batch(validate_data(self, X, dtype=np.float64, reset=False), keeper)
        return self

    def _check_settings(self) -> None:
        if self.inference not in INFERENCES:
            known = ", ".join(INFERENCES)
            raise ConfigError(f"inference must be one of {known}, got {self.inference!r}")
        if self.n_samples < 1 or self.burn_in < 0:
            raise ConfigError(
                f"n_samples must be at least 1 and burn_in not negative, got {self.n_samples} and "
                f"{self.burn_in}"
            )
        if self.rule not in ("summed", "argmax"):
            raise ConfigError(f"rule must be summed or argmax, got {self.rule!r}")
        if not isinstance(self.truncation, (int, np.integer)) or self.truncation < 1:
            raise ConfigError(f"truncation must be a whole number >= 1, got {self.truncation!r}")
        gamma = self.stick_concentration
        if gamma != "gamma" and not (isinstance(gamma, (int, float)) and gamma > 0):
            raise ConfigError(
                f"stick_concentration must be positive or 'gamma', got {self.stick_concentration!r}"
            )
        self._search_config(0)

    def _search_config(self, seed: int) -> SearchConfig:
        return SearchConfig(self.start, self.n_init, self.moves, self.max_iter, self.tol, seed)

    def _learn_classes(self, X: Array, y: NDArray[Any], seed: int) -> None:
        self.classes_, index = np.unique(y, return_inverse=True)
        self.novelty_label_ = novelty_label(self.novelty_label, self.classes_)
        self.seed_ = seed
        self.robust_ = [
            class_estimate(
                X[index == j],
                label,
                self.robust,
                support=self.support_fraction,
                random_state=seed,
            )
            for j, label in enumerate(self.classes_.tolist())
        ]
        p = self.n_features_in_
        self.centre_: Array = np.zeros(p)
        self.unit_: Array = np.ones(p)
        if self.scale:
            self.centre_, self.unit_ = _scaling(self.robust_)
        self.prior_ = self._prior()
        counts = np.bincount(index, minlength=len(self.classes_))
        self.posterior_ = _without_batch(self.prior_, counts)
        self.predictive_ = mixture_of(self.prior_, self.posterior_)
        self.responsibilities_: Array | None = None
        self.elbo_: float | None = None
        self.elbo_path_: list[float] | None = None
        self.n_iter_ = 1
        self.converged_: bool | None = None
        self.n_novel_clusters_ = 0
        self.starts_: list[Ascent] = []
        self.trace_: Trace | None = None

    def _prior(self) -> Prior:
        scaled = [_scaled(e, self.centre_, self.unit_) for e in self.robust_]
        p, j = self.n_features_in_, len(self.classes_)
        if isinstance(self.novel_prior, NIWPrior):
            raw = novel_law(self.novel_prior, p)
            novel = NIW(
                (raw.mean - self.centre_) / self.unit_,
                raw.kappa,
                raw.dof,
                raw.scale / np.outer(self.unit_, self.unit_),
            )
        elif self.novel_prior == "auto":
            novel = novel_law(automatic_prior(scaled), p)
        else:
            raise ConfigError(
                f"novel_prior must be 'auto' or an NIWPrior, got {self.novel_prior!r}"
            )
        known = known_laws(scaled, self.known_trust)
        gamma = self.stick_concentration
        prior = prior_of(
            known if self.transductive else inductive(known),
            novel,
            self.truncation,
            1.0,
            GammaPrior(1.0, 0.2) if gamma == "gamma" else float(gamma),
        )
        alpha = dirichlet_of(self.dirichlet_prior, j)
        return Prior(prior.components, j, alpha, prior.concentration)

    def _fit_batch(self, X: Array, keeper: Keeper | None = None) -> None:
        shift = len(X) * self._log_unit()
        task = Task(
            self.prior_,
            (X - self.centre_) / self.unit_,
            self._search_config(self.seed_),
            int(self.n_samples),
            int(self.burn_in),
            self.rule,
            self.n_jobs,
            None if keeper is None else InUnits(keeper, shift),
        )
        self._keep(INFERENCES[self.inference](task), shift)

    def _keep(self, found: Found, shift: float) -> None:
        """What stage 2 found, log densities as if rows had not been scaled."""
        self.posterior_, self.predictive_ = found.posterior, found.predictive
        self.responsibilities_ = found.shares
        path = None if found.path is None else [b - shift for b in found.path]
        self.elbo_, self.elbo_path_ = None if path is None else path[-1], path
        self.n_iter_, self.converged_ = found.n_iter, found.converged
        own = np.unique(self._components(found.shares))
        self.n_novel_clusters_ = int((own >= len(self.classes_)).sum())
        self.starts_ = [
            a._replace(elbo=a.elbo - shift, path=[b - shift for b in a.path]) for a in found.ascents
        ]
        trace = found.trace
        self.trace_ = trace and trace._replace(log_joint=trace.log_joint - shift)

    def _log_unit(self) -> float:
        """Log of the volume by which scaling shrinks densities."""
        return float(np.log(self.unit_).sum())

    def _predicted(self, X: ArrayLike) -> Predicted:
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        return predict(self.predictive_, (rows - self.centre_) / self.unit_)

    def _components(self, shares: Array) -> Index:
        return components_of(shares, len(self.classes_), self.rule)

    def batch_components(self) -> Index:
        """[M] component of each row of the batch, by the responsibilities of the fit.

        Raises:
            ConfigError: if there was no batch.
        """
        check_is_fitted(self)
        if self.responsibilities_ is None:
            raise ConfigError("there was no batch; mark rows as unlabelled or call fit_novel")
        return self._components(self.responsibilities_)

    def batch_labels(self) -> NDArray[Any]:
        """[M] class of each row of the batch, or `novelty_label_`."""
        return labels_of(self.batch_components(), self.classes_, self.novelty_label_)

    def batch_novelty_proba(self) -> Array:
        """[M] probability of being of no known class, of each row of the batch."""
        self.batch_components()
        assert self.responsibilities_ is not None
        return joint_of(self.responsibilities_, len(self.classes_))[:, -1]

    def joint_proba(self, X: ArrayLike) -> Array:
        """[M, J + 1] probability of each class and, last, of none of them."""
        return joint_of(self._predicted(X).shares, len(self.classes_))

    def predict_proba(self, X: ArrayLike) -> Array:
        """[M, J] probability of each class given that it is one of them, as `classes_`."""
        known = self.joint_proba(X)[:, :-1]
        total = known.sum(1, keepdims=True)
        # Rows that no class explains at all are equally unlike each.
        found: Array = np.where(
            total > 0, known / np.where(total > 0, total, 1), 1 / known.shape[1]
        )
        return found

    def novelty_proba(self, X: ArrayLike) -> Array:
        """[M] probability of being of no known class."""
        return self.joint_proba(X)[:, -1]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """[M] class, or `novelty_label_`."""
        component = self._components(self._predicted(X).shares)
        return labels_of(component, self.classes_, self.novelty_label_)

    def predict_cluster(self, X: ArrayLike) -> Index:
        """[M] component: 0 to J - 1 for classes, J and above for novel clusters."""
        return self._components(self._predicted(X).shares)

    def score_samples(self, X: ArrayLike) -> Array:
        """[M] log predictive density, nats, in the units of the data."""
        found: Array = self._predicted(X).log_density - self._log_unit()
        return found


def _scaling(estimates: list[ClassEstimate]) -> tuple[Array, Array]:
    """Centre of the classes, and their average standard deviation, column by column."""
    centre = np.mean([e.location for e in estimates], axis=0)
    variance = np.mean([np.diag(e.covariance) for e in estimates], axis=0)
    return centre, np.sqrt(variance)


def _scaled(e: ClassEstimate, centre: Array, unit: Array) -> ClassEstimate:
    return ClassEstimate(
        (e.location - centre) / unit,
        e.covariance / np.outer(unit, unit),
        e.n,
        e.distance,
        e.suspect,
        e.method,
    )


def _without_batch(prior: Prior, counts: NDArray[np.int64]) -> Posterior:
    """Classes as stage 1 left them, as frequent as their training rows, and no novelty yet."""
    gamma = prior.concentration
    mean = gamma.shape / gamma.rate if isinstance(gamma, GammaPrior) else gamma
    sticks = np.tile([1.0, mean], (prior.truncation - 1, 1))
    dirichlet = prior.dirichlet.copy()
    dirichlet[1:] += counts
    return Posterior(prior.components, prior.n_known, dirichlet, sticks)
