"""scikit-learn's MLPClassifier, whose `fit` takes all steps of a turn, epoch by epoch.

Its costs are means over epochs. It adds Adam's epsilon before the bias correction, so its
denominators are slightly larger than those of the other peers.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier


def fit(work):
    X = np.concatenate([X.T for X, _ in work.batches])
    y = np.concatenate([y for _, y in work.batches])
    model = MLPClassifier(
        work.sizes[1:-1],
        solver="adam" if work.optimizer == "adam" else "sgd",
        momentum=0.9 if work.optimizer == "momentum" else 0.0,
        nesterovs_momentum=False,
        learning_rate_init=work.rate,
        alpha=0.0,
        batch_size=len(X) // len(work.batches),
        shuffle=False,
        max_iter=1,
        tol=0.0,
        n_iter_no_change=np.inf,
        warm_start=True,
    )
    warnings.simplefilter("ignore", ConvergenceWarning)  # fit warns when it stops at max_iter
    model.fit(X, y)  # makes the model's attributes; its weights are replaced below
    model.set_params(max_iter=work.steps // len(work.batches))
    start = work.start()

    def begin():
        model.coefs_ = [W.T.copy(order="C") for W, _ in start]
        model.intercepts_ = [b[:, 0].copy() for _, b in start]
        model.loss_curve_ = []

        def turn():
            model.fit(X, y)
            return list(map(float, model.loss_curve_))

        return turn

    return begin
