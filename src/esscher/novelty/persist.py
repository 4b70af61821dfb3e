"""A fitted classifier as JSON and safetensors; nothing in it is executed when it is read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from esscher.errors import CheckpointError
from esscher.kit.runs.files import write_json
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.fit import Ascent
from esscher.novelty.inference import Trace
from esscher.novelty.model import GammaPrior, Posterior, Prior
from esscher.novelty.niw import NIW, Array
from esscher.novelty.predictive import Mixture, mixture_of
from esscher.novelty.robust import ClassEstimate
from esscher.novelty.settings import NIWPrior

__all__ = ["load_classifier", "save_classifier"]

FORMAT = 1
NUMBERS, ARRAYS = "novelty.json", "novelty.safetensors"


def save_classifier(model: NoveltyClassifier, folder: Path) -> None:
    """Write a fitted classifier into a folder, made if absent; `n_jobs` is not kept."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in model.get_params().items() if k != "n_jobs"}
    if isinstance(settings["novel_prior"], NIWPrior):
        prior = asdict(settings["novel_prior"])
        settings["novel_prior"] = {k: np.asarray(v).tolist() for k, v in prior.items()}
    if settings["random_state"] is not None:
        settings["random_state"] = model.seed_
    settings["dirichlet_prior"] = np.asarray(settings["dirichlet_prior"]).tolist()
    arrays = {
        **_niw("prior", model.prior_.components),
        "prior.dirichlet": model.prior_.dirichlet,
        **_niw("posterior", model.posterior_.components),
        "posterior.dirichlet": model.posterior_.dirichlet,
        "posterior.sticks": model.posterior_.sticks,
        "centre": model.centre_,
        "unit": model.unit_,
    }
    for j, estimate in enumerate(model.robust_):
        arrays |= {
            f"class.{j}.location": estimate.location,
            f"class.{j}.covariance": estimate.covariance,
            f"class.{j}.distance": estimate.distance,
            f"class.{j}.suspect": estimate.suspect,
        }
    if model.responsibilities_ is not None:
        arrays["responsibilities"] = model.responsibilities_
    if model.trace_ is not None:
        arrays |= _chain_arrays(model.predictive_, model.trace_)
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / ARRAYS)
    facts = {
        "format": FORMAT,
        "settings": settings,
        "classes": model.classes_.tolist(),
        "dtype": model.classes_.dtype.str,
        "novelty_label": np.asarray(model.novelty_label_).tolist(),
        "seed": model.seed_,
        "n_features": model.n_features_in_,
        "concentration": model.prior_.concentration,
        "learnt_concentration": model.posterior_.concentration,
        "methods": [e.method for e in model.robust_],
        "elbo": model.elbo_,
        "elbo_path": model.elbo_path_,
        "n_iter": model.n_iter_,
        "converged": model.converged_,
        "n_novel_clusters": model.n_novel_clusters_,
        "starts": [start._asdict() for start in model.starts_],
        "trace": None if model.trace_ is None else _trace_facts(model.trace_),
    }
    write_json(folder / NUMBERS, facts)


def load_classifier(folder: Path) -> NoveltyClassifier:
    """Read what `save_classifier` wrote; it predicts what it did.

    Raises:
        CheckpointError: if files are missing, damaged or of another format.
    """
    try:
        facts = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        if facts.get("format") != FORMAT:
            raise CheckpointError(f"{folder} is of format {facts.get('format')}, not {FORMAT}")
        return _restored(facts, load_file(folder / ARRAYS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} holds no novelty model that can be read: {error}"
        ) from error


def _restored(facts: dict[str, Any], arrays: dict[str, Array]) -> NoveltyClassifier:
    settings = dict(facts["settings"])
    if isinstance(settings["novel_prior"], dict):
        settings["novel_prior"] = NIWPrior(**settings["novel_prior"])
    model = NoveltyClassifier(**settings)
    classes = facts["classes"]
    model.classes_ = np.array(classes, dtype=np.dtype(facts["dtype"]))
    model.novelty_label_ = facts["novelty_label"]
    model.seed_, model.n_features_in_ = facts["seed"], facts["n_features"]
    model.centre_, model.unit_ = arrays["centre"], arrays["unit"]
    model.robust_ = [
        ClassEstimate(
            arrays[f"class.{j}.location"],
            arrays[f"class.{j}.covariance"],
            len(arrays[f"class.{j}.distance"]),
            arrays[f"class.{j}.distance"],
            arrays[f"class.{j}.suspect"].astype(bool),
            method,
        )
        for j, method in enumerate(facts["methods"])
    ]
    gamma = facts["concentration"]
    model.prior_ = Prior(
        _law("prior", arrays),
        len(classes),
        arrays["prior.dirichlet"],
        GammaPrior(*gamma) if isinstance(gamma, list) else gamma,
    )
    learnt = facts["learnt_concentration"]
    model.posterior_ = Posterior(
        _law("posterior", arrays),
        len(classes),
        arrays["posterior.dirichlet"],
        arrays["posterior.sticks"],
        None if learnt is None else GammaPrior(*learnt),
    )
    model.responsibilities_ = arrays.get("responsibilities")
    model.elbo_, model.elbo_path_ = facts["elbo"], facts["elbo_path"]
    model.n_iter_, model.converged_ = facts["n_iter"], facts["converged"]
    model.n_novel_clusters_ = facts["n_novel_clusters"]
    model.starts_ = [Ascent(**start) for start in facts["starts"]]
    model.trace_ = None
    model.predictive_ = mixture_of(model.prior_, model.posterior_)
    trace = facts.get("trace")
    if trace is not None:
        # JSON has no infinity, which stands for halves of a chain that never meet.
        reduction = trace["scale_reduction"]
        reduction = math.inf if reduction is None else reduction
        series = (arrays["trace.log_joint"], arrays["trace.clusters"])
        model.trace_ = Trace(*series, trace["burn_in"], reduction)
        laws = _law("predictive", arrays)
        model.predictive_ = Mixture(laws, arrays["predictive.weights"], arrays["predictive.owner"])
    return model


def _chain_arrays(predictive: Mixture, trace: Trace) -> dict[str, Array]:
    return {
        **_niw("predictive", predictive.laws),
        "predictive.weights": predictive.weights,
        "predictive.owner": predictive.owner,
        "trace.log_joint": trace.log_joint,
        "trace.clusters": trace.clusters,
    }


def _trace_facts(trace: Trace) -> dict[str, Any]:
    finite = math.isfinite(trace.scale_reduction)
    return {
        "burn_in": trace.burn_in,
        "scale_reduction": trace.scale_reduction if finite else None,
    }


def _niw(name: str, law: NIW) -> dict[str, Array]:
    parts = {"mean": law.mean, "kappa": law.kappa, "dof": law.dof, "scale": law.scale}
    return {f"{name}.{part}": value for part, value in parts.items()}


def _law(name: str, arrays: dict[str, Array]) -> NIW:
    return NIW(*(arrays[f"{name}.{part}"] for part in ("mean", "kappa", "dof", "scale")))
