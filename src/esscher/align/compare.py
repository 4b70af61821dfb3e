"""Several objectives on one target at an equal number of draws, each fit in its own process."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from esscher.align.options import CompareOptions, FitOptions
from esscher.align.run import finish_fit, prepare
from esscher.align.shared import SharedDraws
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.kit.runs.progress import Progress
from esscher.kit.runs.record import Record

__all__ = ["FITS", "Job", "fit_all", "jobs_of", "run_job"]

FITS = "fits"
"""Folder in a comparison's run that holds the runs of its fits."""
DRAWS = "draws"
"""Folder in a comparison's run with what the fits draw alike, until all are done."""
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """One fit of a comparison, the folder its run lives in, and that of the draws all share."""

    options: FitOptions
    root: Path
    draws: Path


def jobs_of(
    options: CompareOptions, run: Run, rates: Mapping[str, float] | None = None
) -> list[Job]:
    """One job per objective.

    Args:
        options: of the comparison.
        run: its run; fits go below it.
        rates: learning rates by objective, where one differs from the rest.
    """
    shared = {f.name: getattr(options, f.name) for f in fields(FitOptions)}
    jobs = []
    for objective in options.objectives:
        own = {"objective": objective, "name": objective, "runs": run.path / FITS}
        if objective != "forward_kl":
            own["credit"] = "auto"
        if rates is not None and objective in rates and options.lr is None:
            own["lr"] = rates[objective]
        jobs.append(Job(FitOptions(**shared | own), run.path / FITS / objective, run.path / DRAWS))
    return jobs


def fit_all(jobs: Sequence[Job], workers: int, output: Output) -> dict[str, dict[str, Any]]:
    """Run the jobs, a few at a time; finished ones are read back, stopped ones continued.

    Raises:
        EsscherError: of the first job that fails; the others are stopped at their checkpoints.
    """
    results = {job.options.objective: done for job in jobs if (done := _done(job)) is not None}
    waiting = [job for job in jobs if job.options.objective not in results]
    total = sum(_planned(job) for job in jobs)
    with output.progress(total, "fit", start=_taken(jobs)) as progress, _pool(workers) as pool:
        futures = {pool.submit(run_job, job): job for job in waiting}
        try:
            for future, job in _completed(futures, jobs, progress):
                results[job.options.objective] = future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    for job in jobs:
        shutil.rmtree(job.draws, ignore_errors=True)
    return {job.options.objective: results[job.options.objective] for job in jobs}


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Forked copies of a process that has used torch's threads can hang: start afresh.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)
    try:
        yield pool
    except BaseException:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)


def run_job(job: Job) -> dict[str, Any]:
    """Start or continue the job's run; called in a worker process."""
    options = job.options
    prepared = prepare(options, Output(quiet=True))
    run = _existing(job) or Run.create(
        job.root, "align", "fit", options.name, config=options, seed=options.seed
    )
    with run:
        return finish_fit(options, prepared, run, shared=SharedDraws(job.draws))


def _existing(job: Job) -> Run | None:
    folders = sorted(job.root.glob("*_align-fit_*"))
    return Run.open(folders[-1], job.options) if folders else None


def _done(job: Job) -> dict[str, Any] | None:
    run = _existing(job)
    return None if run is None else run.result()


def _planned(job: Job) -> int:
    return job.options.steps or 0


def _taken(jobs: Sequence[Job]) -> int:
    return sum(int(row["step"]) for row in map(_last_row, jobs) if row)


def _last_row(job: Job) -> dict[str, Any] | None:
    folders = sorted(job.root.glob("*_align-fit_*"))
    rows = Record(folders[-1]).metrics() if folders else []
    return rows[-1] if rows else None


def _completed(
    futures: Mapping[Future[dict[str, Any]], Job], jobs: Sequence[Job], progress: Progress
) -> Iterator[tuple[Future[dict[str, Any]], Job]]:
    """Futures as they end, while the progress line follows the metrics of all jobs."""
    left = set(futures)
    while left:
        ended, left = wait(left, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        _show(jobs, progress)
        for future in ended:
            yield future, futures[future]


def _show(jobs: Sequence[Job], progress: Progress) -> None:
    active: dict[str, object] = {}
    for job in jobs:
        row = _last_row(job)
        if row and 0 < int(row["step"]) < _planned(job):
            active[job.options.objective] = _brief(row)
    progress.forget()
    progress.update(_taken(jobs) - progress.done, **active)


def _brief(row: Mapping[str, Any]) -> str:
    parts = [f"ESS {100 * row['ess']:.0f}%"]
    if row.get("log_z") is not None:
        parts.append(f"log Z {row['log_z']:.2f}±{row['log_z_se']:.2f}")
    parts.append(f"KL {row['kl_prior']:.2f}")
    return " ".join(parts)
