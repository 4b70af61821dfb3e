"""From names on a command line to a target: priors, evidence functions and prompts."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from esscher.core.evidence import Condition, Evidence, Moments, Reward
from esscher.core.target import Target
from esscher.errors import ConfigError, DataError
from esscher.kit.lm.builtin import builtin_stdlib
from esscher.kit.lm.language_model import LanguageModel
from esscher.kit.lm.loading import load_language_model
from esscher.kit.lm.pretrain import PretrainConfig
from esscher.kit.lm.stdlib import compiles
from esscher.kit.runs.output import Output

__all__ = [
    "BUILTIN",
    "TargetOptions",
    "build_target",
    "find_function",
    "load_prior",
    "read_prompts",
]

BUILTIN = "builtin:stdlib"
PREDICATES: dict[str, Callable[[Sequence[str]], list[bool]]] = {"compiles": compiles}
"""Evidence functions that need no module path."""


@dataclass(frozen=True)
class TargetOptions:
    """Prior and evidence, as named on the command line."""

    prior: str = BUILTIN
    """Where the model comes from: builtin:stdlib, or a folder with a model of ours or of
    transformers."""
    reward: str | None = None
    """Reward function as module:function; takes a list of texts (and prompts, if it has a second
    parameter) and returns one number each."""
    beta: float = 1.0
    """Temperature of the reward: the target is prior · exp(reward / beta)."""
    condition: tuple[str, ...] = ()
    """Predicate that every text must satisfy, as module:function or the built-in `compiles`; may be
    repeated. Without any evidence, builtin:stdlib takes compiles."""
    moments: tuple[str, ...] = ()
    """Mean that a feature must have, as module:function=VALUE; may be repeated."""
    on_error: Literal["raise", "worst"] = "raise"
    """What happens where a reward or condition raises: stop, or rule that text out and warn."""
    prompts: Path | None = None
    """JSON Lines file with a "prompt" per line; without it texts are prompt-free."""


def load_prior(name: str, output: Output) -> tuple[LanguageModel, dict[str, Any]]:
    """The model a name stands for, and what is known about it.

    Raises:
        CheckpointError: if the folder holds no readable model.
    """
    if name != BUILTIN:
        return load_language_model(Path(name)), {"name": name}
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
    if options.reward is not None:
        score = find_function(options.reward, "reward")
        evidence.append(Reward(score, beta=options.beta, on_error=options.on_error))
    conditions = options.condition
    if not (options.reward or conditions or options.moments) and options.prior == BUILTIN:
        conditions = ("compiles",)
    evidence += [
        Condition(find_function(name, "condition"), on_error=options.on_error)
        for name in conditions
    ]
    if options.moments:
        evidence.append(Moments(dict(_moment(text) for text in options.moments)))
    if not evidence:
        raise ConfigError(
            "no evidence is given, so the target would be the prior; name at least one --reward, "
            "--condition or --moments"
        )
    return Target(prior, *evidence)


def find_function(name: str, role: str) -> Callable[..., Any]:
    """The function that module:function names; the working folder is searched too.

    Raises:
        ConfigError: if there is no such module or function.
    """
    if name in PREDICATES:
        return PREDICATES[name]
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        known = ", ".join(PREDICATES)
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
