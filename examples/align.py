"""A training loop of one's own from `init` and `step`, watched by exact distances to the target.

Rare evidence on a model small enough to sum over: texts that hold the letter 2 at least twice.
The fitted policy then proposes to a sampler that removes what distance is left.
"""

from esscher.align import FitConfig, SamplerConfig, TabularLM, evaluate, sample
from esscher.align.train import init, step
from esscher.core import Condition, Target

STEPS = 300


def twice(texts: list[list[int]]) -> list[bool]:
    return [text.count(2) >= 2 for text in texts]


def main() -> None:
    prior = TabularLM(alphabet=3, max_len=5, seed=0)
    target = Target(prior, Condition(twice))
    print(f"log Z {float(target.table().log_z):.3f} nats")

    config = FitConfig("forward_kl", steps=STEPS, batch=256, lr=0.05)
    state = init(prior.clone(), config)
    for done in range(1, STEPS + 1):
        state, info = step(state, target, config)
        if done % 100 == 0:
            found = evaluate(state.average, target)
            satisfied = f"{info.satisfied:.2f} of the draws satisfied"
            print(f"step {done}: {satisfied}, KL(p*‖π) {found.kl_target_model.mean:.4f} nats")

    for name, proposal in (("prior", prior), ("policy", state.average)):
        drawn = sample(target, "quasi_rejection", proposal=proposal, config=SamplerConfig(tvd=0.01))
        print(f"quasi-rejection from the {name} accepts {drawn.facts['acceptance']} of its draws")


if __name__ == "__main__":
    main()
