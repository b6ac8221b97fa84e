import numpy as np

from pydnn.board.heads import Catalog, Curves
from pydnn.board.pages import _smooth, run_page


def test_a_short_curve_has_all_its_points():
    series = _smooth("a", np.arange(400.0), np.arange(400.0) ** 2, band=True)
    assert (series.name, len(series.x), series.low) == ("a", 400, None)


def test_a_long_curve_has_the_means_of_stretches():
    steps = np.arange(1500.0)
    series = _smooth("cost", steps, steps % 10, band=True)
    assert series.name == "cost, mean of 10 steps"
    assert len(series.x) == 150
    np.testing.assert_allclose(series.y, 4.5, atol=0.5)
    assert (series.low.min(), series.high.max()) == (0, 9)
    assert abs(series.x[0] - 4.5) <= 1


def test_a_curve_with_gaps_and_infinities():
    steps = np.append(np.arange(1000.0), [5000.0, 9000.0, 9999.0])
    values = np.where(steps == 5000, np.inf, np.where(steps == 3, np.nan, 1.0))
    series = _smooth("cost", steps, values)
    assert series.low is None
    assert series.x[-3:].tolist() == [5000, 9000, 9999]
    assert series.y[-3:].tolist() == [np.inf, 1, 1]
    assert np.isnan(series.y[0])


def test_a_note_about_means_is_shown_where_there_are_means(runs, monkeypatch):
    def page(**points):
        columns = {n: (np.arange(float(m)), np.ones(m)) for n, m in points.items()}
        monkeypatch.setattr(Catalog, "curves", lambda self, name: Curves(columns))
        return run_page(Catalog(runs), "0001", {})

    assert "A long curve shows means" in page(cost=401)
    assert "A long curve shows means" not in page(cost=400, **{"test cost": 2000})
