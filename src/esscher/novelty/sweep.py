"""The look at the rows that every sweep takes: responsibilities and their sums, block by block.

A look reads each row once and keeps sums only, so that rows may come from memory or from a disk.
Atoms that hold no rows share one law, their prior; they are scored as one, with the sum of their
weights, and share what it gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from esscher.novelty.model import Posterior, Prior
from esscher.novelty.moments import EMPTY, coefficients, features, n_features
from esscher.novelty.niw import NIW, Array
from esscher.novelty.weights import expected_log_weights

__all__ = ["STRAIN", "Batch", "Block", "Sums", "Weigher", "expect", "strain", "sums_of"]

BLOCK_BYTES = 2**20
"""About what the features of one block take, so that they stay in a cache."""
KEPT_BYTES = 2**25
"""Features of all blocks are kept where they take no more than this, and made anew otherwise."""
STRAIN = 1e8
"""Largest squared distance from the origin, in a law's own units, at which products of columns are
exact enough; they lose its rounding error in every row, 1e-8 nats at most."""


class Sums(NamedTuple):
    """What a look at rows leaves.

    Attributes:
        moments: [J + T, F] features summed by responsibility.
        origin: [J + T, p] that they are about.
        entropy: of the responsibilities, nats.
    """

    moments: Array
    origin: Array
    entropy: float

    @property
    def counts(self) -> Array:
        """[J + T] rows by component."""
        return self.moments[:, 0]

    def plus(self, other: Sums) -> Sums:
        """Of both, about the same origin."""
        return Sums(self.moments + other.moments, self.origin, self.entropy + other.entropy)


class Block(NamedTuple):
    """Some rows.

    Attributes:
        start: number of the first.
        y: [b, p] rows.
        features: [F, b] about the batch's origin.
    """

    start: int
    y: Array
    features: Array


class Batch:
    """Rows in memory, in blocks.

    Args:
        y: [M, p] finite rows.

    Attributes:
        y: the rows.
        origin: [p] their mean.
        reach: largest squared distance from it.
    """

    def __init__(self, y: Array) -> None:
        self.y = y
        self.origin: Array = y.mean(0)
        self.reach = max(
            float(np.square(y[i : i + 65536] - self.origin).sum(1).max())
            for i in range(0, len(y), 65536)
        )
        size = 8 * n_features(y.shape[1])
        self._rows = max(512, BLOCK_BYTES // size)
        self._kept: list[Block] | None = None
        if size * len(y) <= KEPT_BYTES:
            self._kept = list(self._made())

    def __len__(self) -> int:
        return len(self.y)

    def blocks(self) -> Iterator[Block]:
        """All rows in their order."""
        return iter(self._made() if self._kept is None else self._kept)

    def _made(self) -> Iterator[Block]:
        for start in range(0, len(self.y), self._rows):
            y = self.y[start : start + self._rows]
            yield Block(start, y, features(y - self.origin))


class Weigher:
    """A posterior, ready to weigh rows.

    Args:
        prior: the model.
        q: the posterior.
        origin: [p] of the features it will see.
        reach: largest squared distance of a row from it.

    Attributes:
        origin: [p].
    """

    def __init__(self, prior: Prior, q: Posterior, origin: Array, reach: float) -> None:
        self.origin = origin
        empty = q.components.kappa - prior.components.kappa <= EMPTY
        empty[: q.n_known] = False
        if not prior.atoms_alike:
            empty[:] = False
        live, spare = np.flatnonzero(~empty), np.flatnonzero(empty)
        self._live, self._spare = live, spare
        self._share: Array = np.empty(0)
        shift = expected_log_weights(q)
        law, weights = q.components, shift
        if len(spare):
            top = shift[spare].max()
            share = np.exp(shift[spare] - top)
            total = share.sum()
            self._share = share / total
            weights = np.append(shift[live], top + np.log(total))
            law = law.take(np.append(live, spare[:1]))
        self._far = np.flatnonzero(strain(law, reach) > STRAIN)
        self._origin = np.repeat(origin[None], len(law), 0)
        self._origin[self._far] = law.mean[self._far]
        self._coefficients = coefficients(law, self._origin)
        self._coefficients[:, 0] += weights
        self._size = (len(empty), n_features(law.dim))

    def weigh(self, block: Block, out: Array | None = None) -> Sums:
        """Sums over a block, and its responsibilities.

        Args:
            block: the rows.
            out: [J + T, b] for the responsibilities; None where nobody wants them.
        """
        scores = self._coefficients @ block.features
        own = {int(i): features(block.y - self._origin[i]) for i in self._far}
        for i, around in own.items():
            scores[i] = self._coefficients[i] @ around
        scores -= scores.max(0)
        phi = np.exp(scores)
        total = phi.sum(0)
        phi /= total
        entropy = float(np.log(total).sum() - np.einsum("kb,kb->", phi, scores))
        moments = phi @ block.features.T
        for i, around in own.items():
            moments[i] = around @ phi[i]
        if out is not None:
            out[self._live] = phi[: len(self._live)]
            if len(self._spare):
                out[self._spare] = self._share[:, None] * phi[-1]
        return self._spread(moments, entropy)

    def _spread(self, moments: Array, entropy: float) -> Sums:
        """The same with what spare atoms share given to each."""
        if not len(self._spare):
            return Sums(moments, self._origin, entropy)
        whole, origin = np.empty(self._size), np.empty((self._size[0], self._origin.shape[1]))
        n = len(self._live)
        whole[self._live], origin[self._live] = moments[:n], self._origin[:n]
        whole[self._spare] = self._share[:, None] * moments[-1]
        origin[self._spare] = self._origin[-1]
        entropy -= float(moments[-1, 0] * xlogy(self._share, self._share).sum())
        return Sums(whole, origin, entropy)


def strain(law: NIW, reach: float) -> Array:
    """[K] largest squared distance of a row in a law's own units, or a little more.

    Args:
        law: K laws.
        reach: largest squared distance of a row from the origin of the features.
    """
    found: Array = law.dof * np.square(law.whitener).sum((1, 2)) * reach
    return found


def expect(prior: Prior, q: Posterior, batch: Batch, out: Array | None = None) -> Sums:
    """Responsibilities that are best given the rest, and their sums.

    Args:
        prior: the model.
        q: the rest.
        batch: the rows.
        out: [J + T, M] for the responsibilities; None where nobody wants them.
    """
    weigher = Weigher(prior, q, batch.origin, batch.reach)
    found: Sums | None = None
    for block in batch.blocks():
        part = None if out is None else out[:, block.start : block.start + len(block.y)]
        sums = weigher.weigh(block, part)
        found = sums if found is None else found.plus(sums)
    assert found is not None
    return found


def sums_of(batch: Batch, phi: Array) -> Sums:
    """Sums by given responsibilities [J + T, M]."""
    moments = np.zeros((len(phi), n_features(batch.y.shape[1])))
    entropy = 0.0
    for block in batch.blocks():
        part = phi[:, block.start : block.start + len(block.y)]
        moments += part @ block.features.T
        entropy -= float(xlogy(part, part).sum())
    return Sums(moments, np.tile(batch.origin, (len(phi), 1)), entropy)
