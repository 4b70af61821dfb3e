"""Decide whom to invite to a trial week, and whom to hire without one.

Five applicants; the worth of a year with each is uncertain, and a trial week, which shows it, costs
money. One of them can be hired, with or without a trial.
"""

from esscher.pandora import Box, PandoraInstance, simulate, solve
from esscher.pandora.explain import explain
from esscher.pandora.sensitivity import cheaper


def main() -> None:
    applicants = PandoraInstance(
        [
            Box([0, 300], [0.9, 0.1], 15, "B"),
            Box([0, 30, 38], [0.85, 0.1, 0.05], 2, "A"),
            Box([0, 34, 45], [0.7, 0.25, 0.05], 0.5, "C"),
            Box([0, 28, 38], [0.85, 0.1, 0.05], 1, "D"),
            Box.normal(11, 15, 1, "E"),  # a law made finite, with its indices kept
        ]
    )
    found = solve(applicants, eps=1e-3)
    print(f"{found.value:.2f} k€, at most {found.gap:.2%} below the best ({found.method})")
    print(f"Weitzman's rule: {found.weitzman:.2f}, best commitment: {found.committing:.2f}")
    for sentence in explain(found.policy, "k€"):
        print(" ", sentence)

    # Asked step by step, as the trials go.
    first = found.policy.next_action({})
    print(first, "then", found.policy.next_action({first.name: 0.0}))

    played = simulate(applicants, found.policy, n=100_000, seed=0)
    print(f"played 100,000 times: {played.mean:.2f} ± {played.se:.2f}")
    gain = cheaper(applicants, "B", cost=5).gain
    print(f"a trial of B for 5 k€ instead of 15 would be worth {gain:.2f} k€")


if __name__ == "__main__":
    main()
