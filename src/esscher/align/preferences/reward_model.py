"""A reward learnt from comparisons: the Bradley-Terry model on a copy of the prior's network."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from esscher.align.preferences.networks import RewardNetwork, reward_network
from esscher.core.law import Context, Samples
from esscher.errors import CheckpointError
from esscher.kit.lm.identity import token_digest
from esscher.kit.lm.language_model import LanguageModel, contexts_of
from esscher.kit.lm.reading import samples_of_items
from esscher.kit.lm.scoring import gather

__all__ = ["RewardModel", "load_reward_model"]

MODEL = "model"
"""Folder of a run that holds its model."""
WEIGHTS, SETTINGS = "reward.safetensors", "reward.json"


class RewardModel:
    """r̂(x, c) in nats of log-odds: P(x ≻ y | c) = σ(r̂(x, c) - r̂(y, c)).

    As evidence it is `Reward(model, beta=…)`. The texts a law of ours hands to evidence remember
    their token ids, and those are scored; texts without ids are encoded by the tokenizer, cut at
    `max_new` tokens. Pairs fix r̂ only up to a constant for each prompt, which no posterior depends
    on; here the mean over the training texts is 0.

    Args:
        law: the prior, which encodes texts and prompts; never changed.
        network: gives the rewards; an untrained one by default, 0 everywhere.

    Raises:
        ConfigError: if the law is of a kind without a reward network.
    """

    def __init__(self, law: LanguageModel, network: RewardNetwork | None = None) -> None:
        self.law = law
        self.network = reward_network(law) if network is None else network
        self.centre = 0.0

    def __call__(self, items: Sequence[Any], contexts: Sequence[str] | None = None) -> Tensor:
        """Rewards [B] of what `law.items` gives: texts, or token-id lists of a tabular model."""
        context = None if contexts is None else list(contexts)
        return self.score(samples_of_items(self.law, items), context)

    def score(self, x: Samples, context: Context = None) -> Tensor:
        """Rewards [B] float64 of samples of the law, nats, without a graph."""
        with torch.no_grad():
            return gather(self.chunks(x, context=context), len(x)) - self.centre

    def chunks(self, x: Samples, *, context: Context = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(index [b], uncentred reward [b] with graph) pairs that cover the batch once."""
        return self.network.chunks(self.law, x, contexts_of(context, len(x)))

    def module(self) -> nn.Module:
        """The parameters."""
        return cast("nn.Module", self.network)

    def clone(self) -> RewardModel:
        """An independent copy; the law is shared."""
        twin = RewardModel(self.law, copy.deepcopy(self.network))
        twin.centre = self.centre
        return twin

    def save(self, path: Path) -> None:
        """Write `reward.safetensors` and `reward.json` into a folder."""
        path.mkdir(parents=True, exist_ok=True)
        weights = {k: v.contiguous() for k, v in self.module().state_dict().items()}
        save_file(weights, path / WEIGHTS)
        settings = {**_identity(self), "centre": self.centre}
        (path / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_reward_model(path: Path | str, prior: LanguageModel) -> RewardModel:
    """Read a reward model that was fitted to pairs of texts of this prior.

    Args:
        path: a folder that `RewardModel.save` wrote, or a run of `align prefer`.
        prior: the law it was fitted for; its tokenizer encodes, its network gives the shape.

    Raises:
        CheckpointError: if the folder holds no readable reward model, or one for another kind of
            network or another tokenizer.
    """
    path = Path(path)
    folder = path / MODEL if (path / MODEL / SETTINGS).is_file() else path
    model = RewardModel(prior)
    try:
        saved = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        theirs = {key: str(saved[key]) for key in _identity(model)}
        model.centre = float(saved["centre"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} holds no readable reward model: {error!r}") from error
    for key, ours in _identity(model).items():
        if theirs[key] != ours:
            raise CheckpointError(
                f"the reward model in {folder} was fitted for another prior: its {key} is "
                f"{theirs[key]!r}, that of the given prior {ours!r}; load the prior it was fitted "
                "with"
            )
    try:
        model.module().load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:
        raise CheckpointError(f"{folder / WEIGHTS} is damaged: {error}") from error
    return model


def _identity(model: RewardModel) -> dict[str, str]:
    """What must agree before saved weights mean anything: the network's shape and the tokens."""
    return {"network": model.network.kind(), "tokens": str(token_digest(model.law))}
