"""The mathematics: laws, evidence, targets, divergences, estimates and samplers."""

from esscher.core.best_of_n import best_of_n, best_of_n_kl, best_of_n_kl_bound, best_of_n_law
from esscher.core.distance import (
    divergence_snis,
    js,
    kl_model_target,
    kl_target_model,
    kl_target_model_snis,
    tvd,
)
from esscher.core.divergence import DIVERGENCES, Divergence, alpha_divergence, get_divergence
from esscher.core.estimate import Estimate, bootstrap, clopper_pearson, from_samples
from esscher.core.evidence import Condition, Evidence, Likelihood, Moments, PrefixCondition, Reward
from esscher.core.finite import exact
from esscher.core.gradient import advantages
from esscher.core.importance import effective_sample_size, log_z, log_z_bounds, pareto_k
from esscher.core.law import Draws, Law, Table, contexts_of, items_of, join, take
from esscher.core.mcmc import (
    ChainResult,
    IndependenceKernel,
    Kernel,
    MixtureKernel,
    Move,
    metropolis_hastings,
    split_rhat,
)
from esscher.core.moments import MomentFit, fit_moments
from esscher.core.quasi import CurveRow, QuasiResult, acceptance_curve, quasi_rejection
from esscher.core.sample import Resample, SampleResult, importance_resample, rejection
from esscher.core.target import Target
from esscher.core.tempering import TemperedResult, geometric_powers, parallel_tempering

__all__ = [
    "DIVERGENCES",
    "ChainResult",
    "Condition",
    "CurveRow",
    "Divergence",
    "Draws",
    "Estimate",
    "Evidence",
    "IndependenceKernel",
    "Kernel",
    "Law",
    "Likelihood",
    "MixtureKernel",
    "MomentFit",
    "Moments",
    "Move",
    "PrefixCondition",
    "QuasiResult",
    "Resample",
    "Reward",
    "SampleResult",
    "Table",
    "Target",
    "TemperedResult",
    "acceptance_curve",
    "advantages",
    "alpha_divergence",
    "best_of_n",
    "best_of_n_kl",
    "best_of_n_kl_bound",
    "best_of_n_law",
    "bootstrap",
    "clopper_pearson",
    "contexts_of",
    "divergence_snis",
    "effective_sample_size",
    "exact",
    "fit_moments",
    "from_samples",
    "geometric_powers",
    "get_divergence",
    "importance_resample",
    "items_of",
    "join",
    "js",
    "kl_model_target",
    "kl_target_model",
    "kl_target_model_snis",
    "log_z",
    "log_z_bounds",
    "metropolis_hastings",
    "parallel_tempering",
    "pareto_k",
    "quasi_rejection",
    "rejection",
    "split_rhat",
    "take",
    "tvd",
]
