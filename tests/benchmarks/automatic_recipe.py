"""The recipe that pydnn chooses for a table, beside scikit-learn's MLP with early stopping.

    OPENBLAS_NUM_THREADS=1 python tests/benchmarks/automatic_recipe.py

Ten data sets and generators of scikit-learn, five seeds each: a quarter of the examples is the test
part. Both columns of the MLP stop early by its own rule; in the second it gets standardized
features, and as many epochs as it wants. Higher is better: accuracy, or R² for numbers.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pydnn as nn
from pydnn.data import Table
from pydnn.recipes import recipe_for

DATA = {
    "iris": lambda seed: datasets.load_iris(return_X_y=True),
    "wine": lambda seed: datasets.load_wine(return_X_y=True),
    "breast cancer": lambda seed: datasets.load_breast_cancer(return_X_y=True),
    "digits": lambda seed: datasets.load_digits(return_X_y=True),
    "classification": lambda seed: datasets.make_classification(
        2000, 20, n_informative=8, n_classes=4, random_state=seed
    ),
    "moons": lambda seed: datasets.make_moons(1000, noise=0.3, random_state=seed),
    "diabetes": lambda seed: datasets.load_diabetes(return_X_y=True),
    "friedman1": lambda seed: datasets.make_friedman1(2000, noise=1.0, random_state=seed),
    "friedman2": lambda seed: datasets.make_friedman2(1000, noise=10.0, random_state=seed),
    "friedman3": lambda seed: datasets.make_friedman3(1000, noise=0.1, random_state=seed),
}
NUMBERS = ("diabetes", "friedman1", "friedman2", "friedman3")


def table_of(X, y, name):
    """The examples as a table whose last column is the target."""
    columns = {f"x{number}": column for number, column in enumerate(X.T)}
    return Table.of(columns | {"y": y if name in NUMBERS else [f"class {c}" for c in y]})


def ours(X, y, X_test, y_test, name, seed):
    train, test = table_of(X, y, name).examples("y"), table_of(X_test, y_test, name)
    predicted = nn.train(recipe_for(train, seed=seed + 1), train).model.predict(test)
    if name in NUMBERS:
        return 1 - np.sum((predicted - y_test) ** 2) / np.sum((y_test - y_test.mean()) ** 2)
    return np.mean(predicted == test["y"])


def peers(X, y, X_test, y_test, name, seed):
    """Scores of the MLP with early stopping: as it comes, and with all that helps it."""
    peer = MLPRegressor if name in NUMBERS else MLPClassifier
    plain = peer(early_stopping=True, random_state=seed)
    helped = peer(early_stopping=True, random_state=seed, max_iter=1000)
    models = (plain, make_pipeline(StandardScaler(), helped))
    return [model.fit(X, y).score(X_test, y_test) for model in models]


def scores(name, seed):
    X, y = DATA[name](seed)
    classes = None if name in NUMBERS else y
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed, stratify=classes)
    parts = (X, y, X_test, y_test, name, seed)
    return [ours(*parts), *peers(*parts)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")  # the peer's, of too few iterations
    print("data set         pydnn    MLP  MLP, standardized, 1,000 epochs")
    for name in DATA:
        means = np.mean([scores(name, seed) for seed in range(seeds)], axis=0)
        print(f"{name:15}{means[0]:7.3f}{means[1]:7.3f}{means[2]:7.3f}", flush=True)
