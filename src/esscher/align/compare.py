"""Several objectives on one target at equal draws or seconds, each fit in its own process."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
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
from esscher.kit.scale.pool import open_pool

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
        own["scale"] = "serial"
        if objective != "forward_kl":
            own["credit"] = "auto"
        if rates is not None and objective in rates and options.lr is None:
            own["lr"] = rates[objective]
        draws = run.path / DRAWS if options.seconds is None else None
        root = run.path / FITS / objective
        jobs.append(Job(FitOptions(**shared | own), root, draws, options.seconds))
    return jobs


def fit_all(jobs: Sequence[Job], scale: str, output: Output) -> dict[str, dict[str, Any]]:
    """Run the jobs, a few at a time; finished ones are read back, stopped ones continued.

    A job whose worker died goes on from its checkpoint on a fresh one.

    Args:
        jobs: whose folders every worker must see.
        scale: where they run; see `open_pool`.
        output: shows how far they are.

    Raises:
        EsscherError: of the first job that fails; the others are stopped at their checkpoints.
    """
    results = {job.options.objective: done for job in jobs if (done := _done(job)) is not None}
    waiting = [job for job in jobs if job.options.objective not in results]
    with (
        output.progress(_total(jobs), "fit", start=_taken(jobs)) as progress,
        open_pool(scale) as pool,
        _followed(jobs, progress),
    ):
        found = pool.map(run_job, waiting)
    results |= {job.options.objective: one for job, one in zip(waiting, found, strict=True)}
    for draws in {job.draws for job in jobs if job.draws is not None}:
        shutil.rmtree(draws, ignore_errors=True)
    return {job.options.objective: results[job.options.objective] for job in jobs}


@contextmanager
def _followed(jobs: Sequence[Job], progress: Progress) -> Iterator[None]:
    """Keep the progress line at what the jobs' metrics say while the block runs."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(POLL_SECONDS):
            _show(jobs, progress)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _show(jobs, progress)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As many fits as there are workers share the processors: each takes one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_job(job: Job) -> dict[str, Any]:
    """Start or continue the job's run; called in a worker process."""
    with _one_thread():
        return _run_job(job)


def _run_job(job: Job) -> dict[str, Any]:
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
