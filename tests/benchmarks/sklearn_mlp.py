"""NetworkClassifier beside scikit-learn's MLPClassifier: same network, batches and epochs.

    python tests/benchmarks/sklearn_mlp.py [--threads N] [--repeats N]

The two fit turn by turn in one process, so that a busy machine is busy for both. Printed are the
medians of seconds and of processor seconds, and the medians of their ratios within a turn.
"""

import argparse
import os
import statistics
import time
import warnings

__all__ = ["WORKS", "digits", "measure", "table"]


def digits():
    """1,797 examples of 64 features, ten classes; 40 epochs."""
    from sklearn.datasets import load_digits

    return *load_digits(return_X_y=True), 40


def table(m=100_000, features=50):
    """100,000 examples of 50 features, two classes; 3 epochs."""
    import numpy as np

    X = np.random.default_rng(0).standard_normal((m, features))
    return X, (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int), 3


WORKS = {"digits": digits, "table": table}


def measure(X, y, epochs, *, repeats):
    """Seconds and processor seconds of both in each turn: rows of (ours, theirs, ours, theirs)."""
    from sklearn.neural_network import MLPClassifier

    from pydnn.interop.sklearn import NetworkClassifier

    rows = []
    for turn in range(-1, repeats):  # the first one warms both up
        options = {
            "max_iter": epochs,
            "random_state": 1,
            "tol": 0.0,
            "n_iter_no_change": epochs + 1,
        }
        wall, cpu = [], []
        for kind in (NetworkClassifier, MLPClassifier):
            estimator = kind(**options)
            start = time.perf_counter(), time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it ends after so many epochs
                estimator.fit(X, y)
            wall.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
            assert estimator.n_iter_ == epochs
        if turn >= 0:
            rows.append((*wall, *cpu))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="of BLAS (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="turns (default: %(default)s)")
    args = parser.parse_args()
    # Before NumPy is loaded; and the kernels that this machine has, whoever chose others.
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    print("work    pydnn s  sklearn s  ratio  ratio of processor time")
    for name, work in WORKS.items():
        rows = measure(*work(), repeats=args.repeats)
        ours, theirs = (statistics.median(row[k] for row in rows) for k in (0, 1))
        wall, cpu = (statistics.median(row[k] / row[k + 1] for row in rows) for k in (0, 2))
        print(f"{name:6}  {ours:7.3f}  {theirs:9.3f}  {wall:5.2f}  {cpu:.2f}")


if __name__ == "__main__":
    main()
