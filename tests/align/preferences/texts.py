"""Comparisons of letters a, b, c, in which an "a" is worth a point and, in some, noise decides."""

import torch

from esscher.align.preferences import Preferences


def worth(text):
    """Log-odds per letter "a"."""
    return 2.0 * text.count("a")


def texts(n, seed, longest=4):
    """Random texts of 1 to `longest` letters."""
    rng = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, longest + 1, (n,), generator=rng).tolist()
    letters = torch.randint(3, (n, longest), generator=rng).tolist()
    return ["".join("abc"[i] for i in row[:size]) for row, size in zip(letters, sizes, strict=True)]


def comparisons(n, seed=0, *, noisy=True, prompts=False, longest=4):
    """N pairs of texts that differ in worth, preferred with Bradley-Terry noise or without."""
    rng = torch.Generator().manual_seed(seed + 1)
    rows = []
    for x, y in zip(texts(4 * n, seed, longest), texts(4 * n, seed + 2, longest), strict=True):
        if worth(x) == worth(y):
            continue
        chance = torch.sigmoid(torch.tensor(worth(x) - worth(y)))
        first = bool(torch.rand((), generator=rng) < chance) if noisy else worth(x) > worth(y)
        rows.append((x, y) if first else (y, x))
    assert len(rows) >= n
    chosen, rejected = zip(*rows[:n], strict=True)
    return Preferences(("ab", "c") * (n // 2) if prompts else None, chosen, rejected)
