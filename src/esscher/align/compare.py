"""Several objectives on one target at equal draws or seconds, each fit in its own process."""

from __future__ import annotations

import math
import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from esscher.align.options import CompareOptions, FitOptions
from esscher.align.pace import pace_of
from esscher.align.run import finish_fit, prepare
from esscher.align.shared import SharedDraws
from esscher.kit.runs.folder import Run
from esscher.kit.runs.output import Output
from esscher.kit.runs.progress import Progress
from esscher.kit.runs.record import Record

__all__ = ["FITS", "Job", "fit_all", "fit_folder", "jobs_of", "run_job"]

FITS = "fits"
"""Folder in a comparison's run that holds the runs of its fits."""
DRAWS = "draws"
"""Folder in a comparison's run with what the fits draw alike, until all are done."""
PACE = "pace.json"
"""File beside a fit's run that says how many steps its seconds were taken for."""
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """One fit of a comparison.

    Attributes:
        options: of the fit; its steps are open where seconds are given.
        root: folder its run lives in.
        draws: folder of the draws that all fits share; None where each has to pay for its own.
        seconds: CPU seconds it may train, or None.
    """

    options: FitOptions
    root: Path
    draws: Path | None
    seconds: float | None = None


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
        draws = run.path / DRAWS if options.seconds is None else None
        root = run.path / FITS / objective
        jobs.append(Job(FitOptions(**shared | own), root, draws, options.seconds))
    return jobs


def fit_all(jobs: Sequence[Job], workers: int, output: Output) -> dict[str, dict[str, Any]]:
    """Run the jobs, a few at a time; finished ones are read back, stopped ones continued.

    Raises:
        EsscherError: of the first job that fails; the others are stopped at their checkpoints.
    """
    results = {job.options.objective: done for job in jobs if (done := _done(job)) is not None}
    waiting = [job for job in jobs if job.options.objective not in results]
    with (
        output.progress(_total(jobs), "fit", start=_taken(jobs)) as progress,
        _pool(workers) as pool,
    ):
        futures = {pool.submit(run_job, job): job for job in waiting}
        try:
            for future, job in _completed(futures, jobs, progress):
                results[job.options.objective] = future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    for draws in {job.draws for job in jobs if job.draws is not None}:
        shutil.rmtree(draws, ignore_errors=True)
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
    prepared = prepare(job.options, Output(quiet=True))
    options = job.options
    if job.seconds is not None:
        pace = pace_of(job.root / PACE, options, prepared)
        options = replace(options, steps=pace.steps_within(job.seconds))
    folder = fit_folder(job.root)
    run = (
        Run.create(job.root, "align", "fit", options.name, config=options, seed=options.seed)
        if folder is None
        else Run.open(folder, options)
    )
    shared = None if job.draws is None else SharedDraws(job.draws)
    with run:
        return finish_fit(options, prepared, run, shared=shared)


def fit_folder(root: Path) -> Path | None:
    """The newest run of a fit below a folder; drafts, which begin with a dot, do not count."""
    folders = sorted(root.glob("[!.]*_align-fit_*"))
    return folders[-1] if folders else None


def _done(job: Job) -> dict[str, Any] | None:
    folder = fit_folder(job.root)
    return None if folder is None else Run.open(folder, _options(job, folder)).result()


def _options(job: Job, folder: Path) -> FitOptions:
    """The job's options with the steps that its run was planned with."""
    if job.seconds is None:
        return job.options
    return replace(job.options, steps=Record(folder).config()["steps"])


def _planned(job: Job) -> int | None:
    folder = fit_folder(job.root)
    return job.options.steps if folder is None else _options(job, folder).steps


def _total(jobs: Sequence[Job]) -> int | None:
    planned = [_planned(job) for job in jobs]
    known = [steps for steps in planned if steps is not None]
    return sum(known) if len(known) == len(jobs) else None


def _taken(jobs: Sequence[Job]) -> int:
    return sum(int(row["step"]) for row in map(_last_row, jobs) if row)


def _last_row(job: Job) -> dict[str, Any] | None:
    folder = fit_folder(job.root)
    rows = [] if folder is None else Record(folder).metrics()
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
        if row and 0 < int(row["step"]) < (_planned(job) or math.inf):
            active[job.options.objective] = _brief(row)
    progress.total = _total(jobs)
    progress.forget()
    progress.update(_taken(jobs) - progress.done, **active)


def _brief(row: Mapping[str, Any]) -> str:
    parts = [f"ESS {100 * row['ess']:.0f}%"]
    if row.get("log_z") is not None:
        parts.append(f"log Z {row['log_z']:.2f}±{row['log_z_se']:.2f}")
    parts.append(f"KL {row['kl_prior']:.2f}")
    return " ".join(parts)
