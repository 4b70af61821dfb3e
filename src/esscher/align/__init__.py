"""Fine-tuning a language model as Bayesian inference: a prior, evidence, a target, and how close.

    from esscher.align import TabularLM, evaluate, fit

`fit` trains a policy towards a `esscher.core.Target` by any of `OBJECTIVES`; `evaluate` says how
close it got, with error bars.
"""

from esscher.align.config import FitConfig
from esscher.align.evaluate import Evaluation, evaluate
from esscher.align.fit import FitResult, fit
from esscher.align.objectives import OBJECTIVES
from esscher.kit.lm.tabular import TabularLM

__all__ = ["OBJECTIVES", "Evaluation", "FitConfig", "FitResult", "TabularLM", "evaluate", "fit"]
