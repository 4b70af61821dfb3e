"""Fine-tuning a language model as Bayesian inference: a prior, evidence, a target, and how close.

    from esscher.align import TabularLM, evaluate, fit

`fit` trains a policy towards a `esscher.core.Target` by any of `OBJECTIVES`; `sample` draws from
the target by any of `SAMPLERS`, through the prior or a trained policy; `evaluate` says how close a
policy got, with error bars.
"""

from esscher.align.config import FitConfig
from esscher.align.evaluate import Evaluation, evaluate
from esscher.align.fit import FitResult, fit
from esscher.align.objectives import OBJECTIVES
from esscher.align.samplers import SAMPLERS, SamplerConfig, sample
from esscher.kit.lm.tabular import TabularLM

__all__ = [
    "OBJECTIVES",
    "SAMPLERS",
    "Evaluation",
    "FitConfig",
    "FitResult",
    "SamplerConfig",
    "TabularLM",
    "evaluate",
    "fit",
    "sample",
]
