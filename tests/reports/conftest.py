import pytest

import pydnn as nn


def record(folder, recipe, data):
    """Record the training of a recipe, and return the run."""
    job = nn.jobs.prepare(recipe, data)
    with nn.runs.create_run(folder, job, data) as recording:
        for _ in nn.runs.record(recording, nn.jobs.run(job)):
            pass
    return nn.runs.Run.open(folder, data=data)


@pytest.fixture(scope="session")
def points():
    X = nn.Key(1).at("X").normal((2, 60))
    Y = (X[:1] > 0).astype(float)
    train, test = nn.Batch(X[:, :40], Y[:, :40]), nn.Batch(X[:, 40:], Y[:, 40:])
    return nn.data.DataSet(train, test, classes=("<b>no</b>", "yes & no"))


@pytest.fixture(scope="session")
def recipe():
    return nn.Recipe(
        data="<script>alert(1)</script>",
        network=nn.serial(nn.dense(4), nn.relu(), nn.dense(1)),
        loss=nn.sigmoid_cross_entropy(),
        optimizer=nn.adam(learning_rate=0.05),
        iterations=30,
        validation=0.2,
        evaluate_every=5,
    )


@pytest.fixture(scope="session")
def recorded():
    """The function that records a run."""
    return record


@pytest.fixture(scope="session")
def run(tmp_path_factory, points, recipe):
    return record(tmp_path_factory.mktemp("runs") / "one", recipe, points)
