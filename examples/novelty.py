"""Fit known classes, discover new ones in a batch, and look at what was found.

Half of the wines in scikit-learn's data set, without the third cultivar, are the training rows; the
other half is a batch nobody labelled.
"""

import warnings

import numpy as np

from esscher.novelty import NoveltyClassifier
from esscher.novelty.examples import wine


def main() -> None:
    _, train, labels, batch, truth = wine(seed=0)
    model = NoveltyClassifier(random_state=0)
    with warnings.catch_warnings():
        # Too few rows for the plain robust estimate; the regularised one is used, and says so.
        warnings.simplefilter("ignore", UserWarning)
        model.fit(train, labels)
    for label, estimate in zip(model.classes_, model.robust_, strict=True):
        print(f"class {label}: {estimate.n} rows, {estimate.suspect.sum()} suspect")

    model.fit_novel(batch)
    print(f"{model.n_novel_clusters_} novel clusters, bound {model.elbo_:.1f} nats")

    called, unknown = model.batch_labels(), ~np.isin(truth, model.classes_)
    for label in [*model.classes_, model.novelty_label_]:
        own = called == label
        name = "novel" if label == model.novelty_label_ else f"class {label}"
        print(
            f"{own.sum()} rows called {name}, of which {unknown[own].sum()} are of no known class"
        )
    print(f"P(novel) of a row far away: {model.novelty_proba(batch[:1] + 1e4)[0]:.3f}")


if __name__ == "__main__":
    main()
