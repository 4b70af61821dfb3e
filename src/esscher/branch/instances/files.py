"""Programs in files."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from esscher.branch.instances.mps import mps_text
from esscher.branch.milp import Milp
from esscher.errors import DataError
from esscher.kit.require import require
from esscher.kit.runs.files import write_atomic

__all__ = ["READ", "milp_of", "read_milp", "read_model", "write_milp"]

READ = (".mps", ".lp", ".cip", ".mps.gz", ".lp.gz", ".cip.gz")
"""Endings of files that are read."""


def read_model(path: Path) -> Any:
    """A silent `pyscipopt.Model` of a file; what it holds need not be linear.

    SCIP's readers keep the variables in an order of their own, so that its tree may be another one
    than that of the program in memory; that of `read_milp(path).to_scip()` is the same.

    Raises:
        DataError: if the file is missing, of an unknown ending or damaged, holds no variable, or a
            coefficient that is no number; it is named.
        MissingExtra: if pyscipopt is not installed.
    """
    ending = _ending(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    if path.suffix.lower() == ".gz":
        _unpacks(path)
    if ".mps" in ending.lower():
        _check_rows(path)
    model = require("pyscipopt", "milp").Model(path.name.removesuffix(ending))
    model.hideOutput()
    try:
        model.readProblem(str(path))
    except Exception as error:  # PySCIPOpt raises OSError here and the bare Exception there.
        raise DataError(f"{path} is no {ending} file that SCIP can read: {error}") from error
    if model.getNVars() == 0:
        raise DataError(f"{path} holds no variable: it is empty or no {ending} file")
    _refuse_nan(model, path)
    return model


def read_milp(path: Path) -> Milp:
    """A program from a file, named after it.

    Raises:
        DataError: as of `read_model` and `milp_of`.
        MissingExtra: if pyscipopt is not installed.
    """
    return replace(milp_of(read_model(path)), name=path.name.removesuffix(_ending(path)))


def milp_of(model: Any) -> Milp:
    """The arrays of a `pyscipopt.Model` that is not being solved, in the order it was built.

    Raises:
        DataError: if a constraint is not linear, or the objective has a constant, which `Milp` does
            not know.
    """
    name, limit = model.getProbName(), model.infinity()
    if model.getObjoffset() != 0:
        raise DataError(f"the objective of {name} has the constant {model.getObjoffset():g}")
    variables = sorted(model.getVars(), key=lambda variable: variable.getIndex())
    place = {variable.ptr(): j for j, variable in enumerate(variables)}
    constraints = model.getConss()
    rows, columns, data = [], [], []
    for i, constraint in enumerate(constraints):
        if not constraint.isLinearType():
            kind = constraint.getConshdlrName()
            raise DataError(f"constraint {constraint.name} of {name} is {kind}, not linear")
        values = model.getConsVals(constraint)
        rows += [i] * len(values)
        columns += [place[variable.ptr()] for variable in model.getConsVars(constraint)]
        data += values
    shape = (len(constraints), len(variables))
    return Milp(
        objective=np.array([variable.getObj() for variable in variables]),
        matrix=sparse.csr_array((np.array(data, dtype=np.float64), (rows, columns)), shape=shape),
        row_low=_limited([model.getLhs(c) for c in constraints], limit),
        row_high=_limited([model.getRhs(c) for c in constraints], limit),
        low=_limited([variable.getLbOriginal() for variable in variables], limit),
        high=_limited([variable.getUbOriginal() for variable in variables], limit),
        integer=np.array([variable.vtype() != "CONTINUOUS" for variable in variables]),
        maximise=model.getObjectiveSense() == "maximize",
        name=name,
    )


def write_milp(path: Path, milp: Milp) -> None:
    """Write a program as `.mps`, exactly and in its order, or as `.lp`, to 15 digits.

    In `.lp`, SCIP puts the binary variables first.

    Raises:
        DataError: if the ending is another one, the file cannot be written, or the format cannot
            hold the program.
        MissingExtra: if pyscipopt is not installed, for `.lp`.
    """
    ending = path.suffix.lower()
    if ending not in (".mps", ".lp"):
        raise DataError(f"programs are written as .mps or .lp, not as {path.name}")
    try:
        if ending == ".mps":
            write_atomic(path, mps_text(milp))
        else:
            milp.to_scip().writeProblem(str(path), verbose=False)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error


def _ending(path: Path) -> str:
    for ending in READ:
        if path.name.lower().endswith(ending):
            return path.name[-len(ending) :]
    raise DataError(f"{path} must end in one of {', '.join(READ)}")


def _unpacks(path: Path) -> None:
    """SCIP reads a file that is packed by halves, or not at all, as far as it goes."""
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is no whole gzip file: {error}") from error


def _check_rows(path: Path) -> None:
    """SCIP's reader of .mps files crashes on a row without a name."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    inside = False
    with opened(path, "rt", encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words or line.startswith("*"):
                continue
            if not line[0].isspace():
                inside = words[0] == "ROWS"
            elif inside and len(words) < 2:
                raise DataError(
                    f"{path}:{number}: a row is its kind and its name, got {line.strip()!r}"
                )


def _refuse_nan(model: Any, path: Path) -> None:
    """SCIP's readers take "nan" for a number."""
    for variable in model.getVars():
        numbers = (variable.getObj(), variable.getLbOriginal(), variable.getUbOriginal())
        if any(map(math.isnan, numbers)):
            raise DataError(f"{path}: the objective or a bound of {variable.name} is NaN")
    for constraint in model.getConss():
        if constraint.isLinearType():
            numbers = (
                *model.getConsVals(constraint), model.getLhs(constraint), model.getRhs(constraint),
            )  # fmt: skip
            if any(map(math.isnan, numbers)):
                raise DataError(f"{path}: a number of constraint {constraint.name} is NaN")


def _limited(values: list[float], limit: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Infinities where SCIP has its own."""
    found = np.array(values, dtype=np.float64)
    found[found >= limit] = np.inf
    found[found <= -limit] = -np.inf
    return found
