"""Weighted set covering (Balas and Ho, 1980)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from esscher.branch.instances.kind import Draw, check_number, check_whole, integers
from esscher.branch.milp import Milp
from esscher.errors import ConfigError

__all__ = ["SetCover"]

ATTEMPTS = 100


@dataclass(frozen=True)
class SetCover:
    """Cover every row by columns: min c'x, A x >= 1, x binary, A of zeros and ones.

    Every row has at least one column and every column at least two rows; otherwise the entries are
    uniform. Given a `numpy.random.RandomState`, the matrices and costs are those of the procedure
    of Gasse et al. (2019).

    Attributes:
        n_rows: elements to cover, at least 2.
        n_cols: sets.
        density: share of ones in A, which then has exactly int(n_rows * n_cols * density) of them.
        max_coef: costs are uniform on 1 .. max_coef.

    Raises:
        ConfigError: if a field is out of range, or A would have fewer ones than rows, or fewer than
            two per column.
    """

    n_rows: int = 500
    n_cols: int = 1000
    density: float = 0.05
    max_coef: int = 100

    def __post_init__(self) -> None:
        check_whole("n_rows", self.n_rows, 2)
        check_whole("n_cols", self.n_cols, 1)
        check_whole("max_coef", self.max_coef, 1)
        check_number("density", self.density, 0.0, 1.0)
        for needed, why in ((self.n_rows, "one per row"), (2 * self.n_cols, "two per column")):
            if self.nnz < needed:
                raise ConfigError(
                    f"density {self.density:g} of {self.n_rows} x {self.n_cols} makes {self.nnz} "
                    f"entries, and {why} needs {needed}; raise density"
                )

    @property
    def name(self) -> str:
        """Such as "setcover-500x1000"."""
        return f"setcover-{self.n_rows}x{self.n_cols}"

    @property
    def nnz(self) -> int:
        """Ones in A."""
        return int(self.n_rows * self.n_cols * self.density)

    def sample(self, rng: Draw) -> Milp:
        """Draw a program.

        Raises:
            ConfigError: if the density is so high that some column always draws more entries than
                there are rows.
        """
        counts = self._counts(rng)
        rows = self._rows(counts, rng)
        costs = integers(rng, 1, self.max_coef, self.n_cols)
        starts = np.concatenate([[0], np.cumsum(counts)])
        by_column = sparse.csc_array(
            (np.ones(self.nnz), rows, starts), shape=(self.n_rows, self.n_cols)
        )
        return Milp(
            objective=costs.astype(np.float64),
            matrix=by_column.tocsr(),
            row_low=np.ones(self.n_rows),
            row_high=np.full(self.n_rows, np.inf),
            low=np.zeros(self.n_cols),
            high=np.ones(self.n_cols),
            integer=np.ones(self.n_cols, dtype=np.bool_),
            name=self.name,
        )

    def _counts(self, rng: Draw) -> NDArray[np.int64]:
        """[n_cols] entries of each column: two, and a uniform share of the others."""
        for _ in range(ATTEMPTS):
            columns = rng.choice(self.n_cols, size=self.nnz)
            # All are drawn and the first ones dropped: published matrices came about so.
            counts = 2 + np.bincount(columns[2 * self.n_cols :], minlength=self.n_cols)
            if counts.max() <= self.n_rows:
                return counts.astype(np.int64)
        raise ConfigError(
            f"density {self.density:g} is too high for {self.n_rows} rows: in {ATTEMPTS} draws "
            "some column had more entries than there are rows; lower density"
        )

    def _rows(self, counts: NDArray[np.int64], rng: Draw) -> NDArray[np.int64]:
        """[nnz] row of each entry, column by column; the first n_rows entries are a permutation."""
        rows = np.empty(self.nnz, dtype=np.int64)
        rows[: self.n_rows] = rng.permutation(self.n_rows)
        stops = np.cumsum(counts).tolist()
        for count, stop in zip(counts.tolist(), stops, strict=True):
            start = stop - count
            if start >= self.n_rows:
                rows[start:stop] = rng.choice(self.n_rows, size=count, replace=False)
            elif stop > self.n_rows:
                # The column began within the permutation and must not repeat its rows.
                others = np.setdiff1d(
                    np.arange(self.n_rows), rows[start : self.n_rows], assume_unique=True
                )
                rows[self.n_rows : stop] = rng.choice(
                    others, size=stop - self.n_rows, replace=False
                )
        return rows
