"""`esscher novelty ...`, as the command line calls it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esscher.errors import ConfigError, DataError
from esscher.kit.data.table import read_table, write_table
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.novelty.classifier import NoveltyClassifier
from esscher.novelty.designs import simulate as draw
from esscher.novelty.follow import Follower, digest_of
from esscher.novelty.niw import Array
from esscher.novelty.options import CompareOptions, DemoOptions, FitOptions, SimulateOptions
from esscher.novelty.peers import compare_peers, scores_of
from esscher.novelty.persist import load_classifier, save_classifier
from esscher.novelty.report import write_report

__all__ = ["Problem", "compare", "demo", "fit", "predict", "simulate"]

MODEL = "model"
COLUMNS = ("label", "novelty_probability", "cluster")


class Problem(NamedTuple):
    """Labelled rows and a batch.

    Attributes:
        features: names of the columns.
        train: [n, p].
        labels: [n].
        batch: [M, p].
        truth: [M] classes of the batch, None where nobody knows them.
    """

    features: tuple[str, ...]
    train: Array
    labels: NDArray[Any]
    batch: Array
    truth: NDArray[Any] | None


def fit(
    train: Path | None = None,
    /,
    *,
    config: FitOptions,
    output: Output,
    resume: Path | None = None,
) -> dict[str, Any]:
    """Fit known classes and discover new ones in an unlabelled batch."""
    options = config if train is None else replace(config, train=train)
    problem = _read(options)
    model = _learnt(options, problem, output)
    with _run(options, "fit", resume) as run:
        _discover(model, options, problem, run, output)
        if options.out is not None:
            _write(options.out, model)
        report = write_report(
            run, model, problem.batch, problem.truth, title="Known classes and novelties"
        )
        return _finished(run, model, problem, report, {"out": options.out})


def compare(
    train: Path | None = None,
    /,
    *,
    config: CompareOptions,
    output: Output,
    resume: Path | None = None,
) -> dict[str, Any]:
    """Fit as `novelty fit` does and set detectors of scikit-learn beside it."""
    options = config if train is None else replace(config, train=train)
    if options.truth is None:
        raise ConfigError("compare needs the true classes of the batch; name their column (truth)")
    problem = _read(options)
    model = _learnt(options, problem, output)
    with _run(options, "compare", resume) as run:
        seconds = _discover(model, options, problem, run, output)
        output.say("fitting detectors of scikit-learn")
        return _compared(run, model, problem, seconds, "Beside other detectors")


def predict(model: Path, new: Path, /, *, out: Path | None = None) -> dict[str, Any]:
    """Label rows the model has not seen, each on its own, without fitting anything again."""
    folder = model / MODEL if (model / MODEL).is_dir() else model
    fitted = load_classifier(folder)
    table = read_table(new)
    names = _features_of(folder, table.names)
    rows = table.numbers(names)
    proba = fitted.novelty_proba(rows)
    labels, cluster = fitted.predict(rows), fitted.predict_cluster(rows)
    if out is not None:
        write_table(
            out, COLUMNS, zip(labels.tolist(), proba.tolist(), cluster.tolist(), strict=True)
        )
    return {
        "rows": len(rows),
        "novel": int((proba > 0.5).sum()),
        "out": None if out is None else str(out),
        **({} if out is not None else {"labels": [str(label) for label in labels]}),
    }


def simulate(config: SimulateOptions) -> dict[str, Any]:
    """Write rows of a published simulation design."""
    sim = draw(
        config.design,
        dim=config.dim,
        factor=config.factor,
        swapped=config.swapped,
        seed=config.seed,
    )
    names = [f"x{i + 1}" for i in range(config.dim)]
    write_table(config.train, [*names, "label"], _with(sim.train, sim.labels))
    write_table(config.test, [*names, "truth"], _with(sim.test, sim.truth))
    return {
        "train": str(config.train),
        "test": str(config.test),
        "rows": {"train": len(sim.train), "test": len(sim.test)},
        "known": sim.n_known,
        "novel": int(sim.truth.max()) - sim.n_known,
    }


def demo(config: DemoOptions, output: Output) -> dict[str, Any]:
    """Discover held-out classes of public data and say how well that went."""
    from esscher.novelty.examples import digits, landsat, wine  # noqa: PLC0415 - scikit-learn's

    options = FitOptions(seed=config.seed, runs=config.runs, name=config.name, n_init=4)
    titles = {
        "digits": "Two digits nobody told it about",
        "wine": "A cultivar nobody told it about",
        "landsat": "Two soils nobody told it about",
    }
    examples = {
        "digits": lambda: digits(config.seed),
        "wine": lambda: wine(config.seed),
        "landsat": landsat,
    }
    problem = Problem(*examples[config.data]())
    model = _learnt(options, problem, output)
    with _run(options, "demo", None) as run:
        seconds = _discover(model, options, problem, run, output)
        output.say("fitting detectors of scikit-learn")
        return _compared(run, model, problem, seconds, titles[config.data])


def _compared(
    run: Run, model: NoveltyClassifier, problem: Problem, seconds: float, title: str
) -> dict[str, Any]:
    peers = _peers(model, problem, seconds, int(run.env()["seed"]))
    report = write_report(run, model, problem.batch, problem.truth, title=title, peers=peers)
    return _finished(run, model, problem, report, {"methods": peers})


def _read(options: FitOptions) -> Problem:
    if options.train is None or options.new is None:
        missing = "train" if options.train is None else "new"
        raise ConfigError(
            f"a file of labelled rows and one of the batch are needed; {missing} is missing"
        )
    train, new = read_table(options.train), read_table(options.new)
    labels = train.text(options.label)
    names = tuple(name for name in train.names if name != options.label)
    if not names:
        raise DataError(f"{options.train} has no columns besides {options.label!r}")
    truth = None if options.truth is None else new.text(options.truth)
    return Problem(names, train.numbers(names), labels, new.numbers(names), truth)


def _learnt(options: FitOptions, problem: Problem, output: Output) -> NoveltyClassifier:
    """The known classes; bad settings and labels end here, before there is a run."""
    model = NoveltyClassifier(**options.settings())
    with _said(output):
        model.fit(problem.train, problem.labels)
    return model


def _run(options: FitOptions, verb: str, resume: Path | None) -> Run:
    if resume is not None:
        return Run.open(resume, options)
    return Run.create(
        options.runs, "novelty", verb, options.name, config=options, seed=options.seed
    )


def _discover(
    model: NoveltyClassifier, options: FitOptions, problem: Problem, run: Run, output: Output
) -> float:
    """Stage 2, saved in the run: its CPU seconds."""
    pieces = {"vb": "ascents", "svi": "steps and sweeps"}
    what = pieces.get(options.inference, f"{options.inference} sweeps")
    output.say(f"{what} over {len(problem.batch)} rows")
    data = digest_of(problem.train, problem.labels, problem.batch)
    with _said(output), Follower(run, output, what, data=data) as follower:
        model.fit_novel(problem.batch, keeper=follower)
    save_classifier(model, run.path / MODEL)
    (run.path / MODEL / "features.txt").write_text(
        "\n".join(problem.features) + "\n", encoding="utf-8"
    )
    return follower.seconds


@contextmanager
def _said(output: Output) -> Iterator[None]:
    """Warnings as notes, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for text in dict.fromkeys(str(w.message) for w in caught):
        output.say(f"warning: {text}")


def _features_of(folder: Path, present: tuple[str, ...]) -> list[str]:
    """The columns the model was fitted to, in their order."""
    try:
        names = (folder / "features.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return list(present)
    return names


def _write(path: Path, model: NoveltyClassifier) -> None:
    proba = model.batch_novelty_proba()
    rows = zip(
        model.batch_labels().tolist(),
        proba.tolist(),
        model.batch_components().tolist(),
        strict=True,
    )
    write_table(path, COLUMNS, rows)


def _peers(
    model: NoveltyClassifier, problem: Problem, seconds: float, seed: int
) -> list[dict[str, Any]]:
    """Ours first, then the detectors."""
    assert problem.truth is not None
    proba = model.batch_novelty_proba()
    own = scores_of(proba, model.batch_components(), model.classes_, problem.truth)
    first = {"method": "this model", "auc": own["auc"], "ari": own["ari"], "seconds": seconds}
    others = compare_peers(problem.train, problem.labels, problem.batch, problem.truth, seed=seed)
    return [first, *others]


def _finished(
    run: Run, model: NoveltyClassifier, problem: Problem, report: Path, more: dict[str, Any]
) -> dict[str, Any]:
    proba = model.batch_novelty_proba()
    numbers: dict[str, Any] = {
        "elbo": model.elbo_,
        "n_novel_clusters": model.n_novel_clusters_,
        "novel_rows": int((model.batch_components() >= len(model.classes_)).sum()),
        "rows": len(problem.batch),
        "converged": model.converged_,
        "starts": _starts(model),
        "suspects": {
            str(label): int(e.suspect.sum())
            for label, e in zip(model.classes_, model.robust_, strict=True)
        },
    }
    if problem.truth is not None:
        numbers |= scores_of(proba, model.batch_components(), model.classes_, problem.truth)
    numbers |= {k: str(v) if isinstance(v, Path) else v for k, v in more.items() if v is not None}
    run.finish(numbers)
    return {"report": str(report), "run": str(run.path), **numbers}


def _starts(model: NoveltyClassifier) -> list[dict[str, Any]]:
    """One record per ascent; of a chain one, which has no bound and a scale reduction instead."""
    if model.trace_ is None:
        return [
            {"elbo": s.elbo, "sweeps": s.sweeps, "clusters": s.clusters, "converged": s.converged}
            for s in model.starts_
        ]
    reduction = model.trace_.scale_reduction
    return [
        {
            "elbo": None,
            "sweeps": model.n_iter_,
            "clusters": model.n_novel_clusters_,
            "converged": model.converged_,
            "scale_reduction": reduction if math.isfinite(reduction) else None,
        }
    ]


def _with(rows: Array, labels: NDArray[np.int64]) -> list[list[object]]:
    return [[*row, label] for row, label in zip(rows.tolist(), labels.tolist(), strict=True)]
