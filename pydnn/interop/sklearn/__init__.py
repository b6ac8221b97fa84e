"""Estimators for scikit-learn: networks that stand where its `MLPClassifier` and `MLPRegressor` do.

They take the same arguments with the same defaults, and have the same fitted attributes:

    from pydnn.interop.sklearn import NetworkClassifier

    classifier = NetworkClassifier(network="dense(64), gelu()", standardize=True)
    classifier.fit(X, y).predict(X_new)

Every fit is the training of a `Recipe`, so its result is a `Model`: `classifier.model_`.
"""

from pydnn.checks import import_extra

import_extra("sklearn", extra="sklearn", purpose="pydnn.interop.sklearn")

from pydnn.interop.sklearn.classifier import NetworkClassifier  # noqa: E402
from pydnn.interop.sklearn.regressor import NetworkRegressor  # noqa: E402

__all__ = ["NetworkClassifier", "NetworkRegressor"]
