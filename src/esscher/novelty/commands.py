"""`esscher novelty ...`, as the command line calls it."""

from __future__ import annotations

import time
import warnings
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


def fit(train: Path | None = None, /, *, config: FitOptions, output: Output) -> dict[str, Any]:
    """Fit known classes and discover new ones in an unlabelled batch."""
    options = config if train is None else replace(config, train=train)
    problem = _read(options)
    model, run = _fitted(options, "fit", problem, output)
    with run:
        if options.out is not None:
            _write(options.out, model)
        report = write_report(
            run, model, problem.batch, problem.truth, title="Known classes and novelties"
        )
        return _finished(run, model, problem, report, {"out": options.out})


def compare(
    train: Path | None = None, /, *, config: CompareOptions, output: Output
) -> dict[str, Any]:
    """Fit as `novelty fit` does and set detectors of scikit-learn beside it."""
    options = config if train is None else replace(config, train=train)
    if options.truth is None:
        raise ConfigError("compare needs the true classes of the batch; name their column (truth)")
    problem = _read(options)
    began = time.process_time()
    model, run = _fitted(options, "compare", problem, output)
    spent = time.process_time() - began
    with run:
        assert problem.truth is not None
        output.say("fitting detectors of scikit-learn")
        peers = _peers(model, problem, spent, options.seed)
        report = write_report(
            run, model, problem.batch, problem.truth, title="Beside other detectors", peers=peers
        )
        return _finished(run, model, problem, report, {"methods": peers})


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
    """Discover held-out classes among handwritten digits and say how well that went."""
    from esscher.novelty.examples import digits  # noqa: PLC0415 - scikit-learn's data set

    options = FitOptions(seed=config.seed, runs=config.runs, name=config.name, n_init=4)
    problem = Problem(*digits(config.seed))
    began = time.process_time()
    model, run = _fitted(options, "demo", problem, output)
    spent = time.process_time() - began
    with run:
        peers = _peers(model, problem, spent, config.seed)
        report = write_report(
            run,
            model,
            problem.batch,
            problem.truth,
            title="Two digits nobody told it about",
            peers=peers,
        )
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


def _fitted(
    options: FitOptions, verb: str, problem: Problem, output: Output
) -> tuple[NoveltyClassifier, Run]:
    """The model, saved in a new run; warnings are said."""
    model = NoveltyClassifier(**options.settings())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model.fit(problem.train, problem.labels)
        output.say(f"{options.n_init} ascents over {len(problem.batch)} rows")
        model.fit_novel(problem.batch)
    for text in dict.fromkeys(str(w.message) for w in caught):
        output.say(f"warning: {text}")
    run = Run.create(options.runs, "novelty", verb, options.name, config=options, seed=options.seed)
    save_classifier(model, run.path / MODEL)
    (run.path / MODEL / "features.txt").write_text(
        "\n".join(problem.features) + "\n", encoding="utf-8"
    )
    return model, run


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
        "starts": [
            {"elbo": s.elbo, "sweeps": s.sweeps, "clusters": s.clusters, "converged": s.converged}
            for s in model.starts_
        ],
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


def _with(rows: Array, labels: NDArray[np.int64]) -> list[list[object]]:
    return [[*row, label] for row, label in zip(rows.tolist(), labels.tolist(), strict=True)]
