"""From names on a command line to a target: priors, evidence functions and prompts."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from esscher.align.model_flags import ModelFlags
from esscher.align.rewards.classifier import Classifier
from esscher.align.rewards.command import CommandReward
from esscher.align.rewards.deploy import deploy
from esscher.align.rewards.expert import Expert
from esscher.align.rewards.installed import installed_names, installed_reward
from esscher.core.batch import BatchFunction
from esscher.core.evidence import (
    Condition,
    Evidence,
    Likelihood,
    Moments,
    PrefixCondition,
    Reward,
)
from esscher.core.target import Target
from esscher.errors import ConfigError, DataError
from esscher.kit.lm.builtin import builtin_stdlib
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.loading import load_language_model
from esscher.kit.lm.model_options import AS_STORED, ModelOptions
from esscher.kit.lm.predicates import PREDICATES
from esscher.kit.lm.pretrain import PretrainConfig
from esscher.kit.runs.output import Output
from esscher.kit.scale.pool import check_scale

__all__ = [
    "BUILTIN",
    "EvidenceFlags",
    "TargetOptions",
    "build_target",
    "find_function",
    "find_gold",
    "load_prior",
    "read_prompts",
]

BUILTIN = "builtin:stdlib"


@dataclass(frozen=True)
class EvidenceFlags:
    """Prior and evidence, as named on the command line."""

    prior: str = BUILTIN
    """Where the model comes from: builtin:stdlib, a folder with a model of ours or of transformers,
    or a hub name, hf:organisation/model[@revision]."""
    reward: str | None = None
    """Reward function as module:function, or the name of an installed one; takes a list of texts
    (and prompts, if it has a second parameter) and returns one number each."""
    beta: float = 1.0
    """Temperature of the reward: the target is prior · exp(reward / beta)."""
    condition: tuple[str, ...] = ()
    """Predicate that every text must satisfy, as module:function or built in (compiles, has_branch,
    has_return, names_bound, no_unused_args, uses_self); may be repeated. Without any evidence,
    builtin:stdlib takes compiles."""
    prefix_condition: tuple[str, ...] = ()
    """Predicate that, once false of the beginning of a text, stays false, such as
    closes_only_open_brackets: smc, awrs and twisted_smc then give such beginnings up; may be
    repeated."""
    moments: tuple[str, ...] = ()
    """Mean that a feature must have, as module:function=VALUE; may be repeated."""
    classifier: Path | None = None
    """Folder with a text classifier of transformers, as evidence p(label given text)."""
    label: str | None = None
    """Label of the classifier that texts should have."""
    alpha: float = 1.0
    """Power of the classifier's probability; 1 is Bayes' rule."""
    expert: tuple[str, ...] = ()
    """Another model as a factor of the target, as FOLDER=POWER; may be repeated."""
    prior_power: float = 1.0
    """Power of the prior itself in the target."""
    reward_cmd: str | None = None
    """Reward as a program instead: it reads a line {"text": …, "prompt": …} for every text and
    prints a line with a number, or {"reward": number}, before it reads on."""
    scale: str = "serial"
    """Where the reward runs: serial (in this process), processes:N, ray:auto, ray:N or
    ray:ADDRESS."""
    timeout: float | None = None
    """Seconds after which a reward is stopped with an error: for one call of a function in a worker
    process, for one answer of a program."""
    reward_cache: Path | None = None
    """JSON Lines file that keeps rewards by text and prompt, for this run and later ones. A changed
    source of the reward begins anew; a change in what it imports does not."""
    on_error: Literal["raise", "worst"] = "raise"
    """What happens where a reward or condition raises: stop, or rule that text out and warn."""
    prompts: Path | None = None
    """JSON Lines file with a "prompt" per line; without it texts are prompt-free."""


@dataclass(frozen=True)
class TargetOptions(ModelFlags, EvidenceFlags):
    """Prior and evidence, and how the prior is read."""

    LEAST_N: ClassVar[int] = 25
    """Fewest draws a command works with, where it has their number `n` among its options."""

    def __post_init__(self) -> None:
        """Refuse before anything is built what cannot be run."""
        check_scale(self.scale)
        n = getattr(self, "n", self.LEAST_N)
        if n < self.LEAST_N:
            raise ConfigError(f"n must be at least {self.LEAST_N}, got {n}")


def load_prior(
    name: str, output: Output, options: ModelOptions = AS_STORED
) -> tuple[LanguageModel, dict[str, Any]]:
    """The model a name stands for, and what is known about it.

    Raises:
        CheckpointError: if the folder holds no readable model.
        ConfigError: if options are set for a model of ours.
    """
    if name != BUILTIN:
        return load_language_model(name, options), {"name": name}
    if options != AS_STORED:
        raise ConfigError(
            f"{name} is a model of ours; leave out {', '.join(options.changed())}, which "
            "transformers models take"
        )
    config = PretrainConfig()
    with output.progress(config.steps, "prior") as progress:
        prior = builtin_stdlib(
            config=config, on_step=lambda _, loss: progress.update(loss_nats_per_token=loss)
        )
    known = {
        "name": name,
        "held_out_loss": prior.held_out_loss,
        "n_texts": prior.n_texts,
        "corpus_hash": prior.corpus_hash,
        "memorised": prior.memorised,
        "from_cache": prior.from_cache,
    }
    return prior.model, known


def build_target(prior: LanguageModel, options: TargetOptions) -> Target:
    """Prior × the evidence named in the options.

    Raises:
        ConfigError: if there is no evidence, or a name does not lead to a function.
    """
    evidence: list[Evidence] = []
    score = _reward(options)
    if score is not None:
        evidence.append(Reward(score, beta=options.beta, on_error=options.on_error))
    conditions = options.condition
    others = options.prefix_condition or options.moments or options.expert or options.classifier
    tempered = options.prior_power != 1.0
    if not (evidence or conditions or others or tempered) and options.prior == BUILTIN:
        conditions = ("compiles",)
    evidence += [
        Condition(find_function(name, "condition"), on_error=options.on_error)
        for name in conditions
    ]
    evidence += [
        PrefixCondition(find_function(name, "prefix_condition"), on_error=options.on_error)
        for name in options.prefix_condition
    ]
    if options.moments:
        evidence.append(Moments(dict(_moment(text) for text in options.moments)))
    evidence += [_expert(text, prior) for text in options.expert]
    evidence += _classified(options)
    if not evidence and options.prior_power == 1.0:
        raise ConfigError(
            "no evidence is given, so the target would be the prior; name at least one --reward, "
            "--reward-cmd, --condition, --moments, --classifier or --expert"
        )
    return Target(prior, *evidence, prior_power=options.prior_power)


def _classified(options: TargetOptions) -> list[Evidence]:
    if options.classifier is None:
        if options.label is not None:
            raise ConfigError("--label is of a classifier, and there is none; add --classifier")
        return []
    if options.label is None:
        raise ConfigError("--classifier needs a --label that texts should have")
    found = Classifier(options.classifier, options.label)
    return [Likelihood(found, options.alpha, found.name, on_error=options.on_error)]


def _expert(text: str, prior: LanguageModel) -> Evidence:
    name, _, power = text.rpartition("=")
    try:
        scale = float(power)
    except ValueError as error:
        raise ConfigError(f"expert {text!r} is not FOLDER=POWER") from error
    return Likelihood(Expert(load_language_model(name), prior), scale, f"{name}^{power}")


def _reward(options: TargetOptions) -> BatchFunction | None:
    """The reward, where and how it is to run."""
    if options.reward is not None and options.reward_cmd is not None:
        raise ConfigError(
            f"the reward is either a function or a program, got --reward {options.reward} and "
            f"--reward-cmd {options.reward_cmd!r}; leave one out"
        )
    function: BatchFunction
    if options.reward_cmd is not None:
        name = options.reward_cmd
        function = CommandReward(name, timeout=options.timeout)
    elif options.reward is not None:
        name = options.reward
        function = find_function(name, "reward")
    elif (options.scale, options.timeout, options.reward_cache) != ("serial", None, None):
        raise ConfigError(
            "--scale, --timeout and --reward-cache are about a reward, and there is none; add "
            "--reward or --reward-cmd"
        )
    else:
        return None
    return deploy(
        function, name, scale=options.scale, timeout=options.timeout, cache=options.reward_cache
    )


def find_function(name: str, role: str) -> Callable[..., Any]:
    """The function that module:function names; the working folder is searched too.

    Names without a colon are built in, or, for a reward, installed under `esscher.rewards`.

    Raises:
        ConfigError: if there is no such module or function.
    """
    if name in PREDICATES:
        return PREDICATES[name]
    module_name, colon, attribute = name.partition(":")
    if role == "reward" and not colon and (installed := installed_reward(name)) is not None:
        return installed
    if not colon or not module_name or not attribute:
        known = ", ".join([*PREDICATES, *(installed_names() if role == "reward" else ())])
        raise ConfigError(f"{role} {name!r} is neither module:function nor built in ({known})")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{role} {name!r}: there is no module {error.name!r}, neither installed nor in {here}"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{role} {name!r}: {error}") from error
    if not callable(function):
        raise ConfigError(f"{role} {name!r} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def find_gold(name: str | None) -> BatchFunction | None:
    """The second judge that an option names, None for no name."""
    return None if name is None else find_function(name, "gold")


def _moment(text: str) -> tuple[Callable[..., Any], float]:
    name, equals, value = text.rpartition("=")
    try:
        return find_function(name, "moments"), float(value if equals else "")
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"moments {text!r} is not module:function=NUMBER") from error


def read_prompts(path: Path | None) -> list[str] | None:
    """The prompts of a JSON Lines file, None for no file.

    Raises:
        DataError: naming the line that is not an object with a text "prompt".
    """
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read prompts from {path}: {error}") from error
    prompts = [_prompt(line, f"{path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise DataError(f'{path} has no prompt; expected lines such as {{"prompt": "def "}}')
    return prompts


def _prompt(line: str, where: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{where}: expected an object with "prompt", got {line[:60]!r}') from error
    if not isinstance(prompt, str):
        raise DataError(f"{where}: the prompt must be a text, got {type(prompt).__name__}")
    return prompt
