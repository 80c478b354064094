"""Gradient descent on landscapes: derivatives, methods by hand, the bound 2 / L, pictures."""

import numpy as np
import pytest

from cairn.foundations.descent import (
    LANDSCAPES,
    METHODS,
    best,
    bound,
    bowl,
    curvatures,
    finite_differences,
    measured,
    shrinkage,
    walk,
)
from cairn.foundations.descent import demos as chapter
from cairn.foundations.descent.pictures import COLORS, animate, heights

LANDS = list(LANDSCAPES.values())


@pytest.mark.parametrize("land", LANDS, ids=lambda land: land.name)
def test_gradients_and_hessians_by_finite_differences(land):
    rng = np.random.default_rng(0)
    left, right, bottom, top = land.view
    for w in rng.uniform((left, bottom), (right, top), size=(20, 2)):
        scale = 1 + np.abs(land.hessian(w)).max()
        assert np.abs(land.gradient(w) - finite_differences(land.value, w)).max() < 1e-7 * scale
        numerical = finite_differences(land.gradient, w)
        assert np.abs(land.hessian(w) - numerical).max() < 1e-6 * scale
        assert (land.hessian(w) == land.hessian(w).T).all()


@pytest.mark.parametrize("land", LANDS, ids=lambda land: land.name)
def test_minima_are_level_and_lowest(land):
    for minimum in np.array(land.minima):
        assert abs(land.value(minimum)) < 1e-20
        assert np.abs(land.gradient(minimum)).max() < 1e-10
        assert curvatures(land, minimum).min() > 0
    left, right, bottom, top = land.view
    grid = np.stack(np.meshgrid(np.linspace(left, right, 50), np.linspace(bottom, top, 50)))
    assert land.value(grid).shape == (50, 50)
    assert land.value(grid).min() >= 0


def test_two_steps_of_each_method_by_hand():
    """On f = (x^2 + 4 y^2) / 2 from (1, 1) at rate 0.1: the gradient is (x, 4y)."""
    land, start = bowl(4.0), np.array([1.0, 1.0])
    paths = {method: walk(land, method, 0.1, 2, start) for method in METHODS}
    for path in paths.values():
        assert (path[0] == start).all()
    assert paths["plain"][1:] == pytest.approx(np.array([[0.9, 0.6], [0.81, 0.36]]))
    # velocities (1, 4), then 0.9 * (1, 4) + (0.9, 2.4) = (1.8, 6)
    assert paths["momentum"][1:] == pytest.approx(np.array([[0.9, 0.6], [0.72, 0.0]]))
    # steps 1.9 * (1, 4), then g = (0.81, 0.96), v = (1.71, 4.56), step g + 0.9 v = (2.349, 5.064)
    assert paths["Nesterov"][1:] == pytest.approx(np.array([[0.81, 0.24], [0.5751, -0.2664]]))
    # the mean square is 0.01 g^2, so the first step is 10 * rate in each direction
    assert paths["RMSProp"][1] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert paths["Adam"][1] == pytest.approx([0.9, 0.9], abs=1e-6)  # freed of its start: the sign times the rate
    assert paths["Newton"][1:] == pytest.approx(np.array([[0.9, 0.9], [0.81, 0.81]]))


def test_newton_takes_one_step_on_a_bowl_and_stops_at_a_saddle():
    assert np.abs(walk(bowl(1e6), "Newton", 1.0, 1)[-1]).max() == 0.0
    land = LANDSCAPES["saddle"]
    assert walk(land, "Newton", 1.0, 20)[-1] == pytest.approx([0, 0], abs=1e-12)
    assert curvatures(land, np.zeros(2)).tolist() == [-1.0, 1.0]
    assert walk(land, "plain", 0.1, 300)[-1] == pytest.approx([0, 1], abs=1e-9)


def test_momentum_beats_plain_on_a_bad_condition():
    """With its best settings for condition k, momentum shrinks by about 1 - 2 / sqrt(k) and plain by 1 - 2 / k."""
    land = bowl(1000.0)
    rates = {"plain": best(np.array([1.0, 1000.0])), "momentum": 3.5 / 1000}
    ends = {method: np.linalg.norm(walk(land, method, rate, 400)[-1]) for method, rate in rates.items()}
    assert ends["momentum"] < ends["plain"] / 1000


@pytest.mark.parametrize("condition", [3.0, 25.0, 400.0])
def test_the_bound(condition):
    land = bowl(condition)
    curvature = curvatures(land, np.zeros(2))
    assert (curvature[0], curvature[1]) == (1.0, condition)
    limit = bound(curvature)
    for share, grows in ((0.3, False), (0.99, False), (1.01, True)):
        path = walk(land, "plain", share * limit, 3000)
        assert (np.linalg.norm(path[-1]) > np.linalg.norm(path[0])) == grows
    rate = best(curvature)
    assert shrinkage(rate, curvature) == pytest.approx((condition - 1) / (condition + 1))
    assert shrinkage(rate, curvature) < min(shrinkage(rate * 0.99, curvature), shrinkage(rate * 1.01, curvature))
    steps = 50
    assert measured(walk(land, "plain", rate, steps)) == pytest.approx(shrinkage(rate, curvature))


@pytest.mark.parametrize("name", ["Rosenbrock", "Himmelblau", "Beale", "saddle"])
def test_the_bound_holds_near_any_minimum(name):
    land = LANDSCAPES[name]
    minimum = np.array(land.minima[0])
    limit = bound(curvatures(land, minimum))
    start = minimum + 1e-5
    below = walk(land, "plain", 0.95 * limit, 100, start)
    above = walk(land, "plain", 1.05 * limit, 100, start)
    distance = np.linalg.norm(start - minimum)
    assert np.linalg.norm(below[-1] - minimum) < distance < np.linalg.norm(above[-1] - minimum) / 10


def test_walks_that_cannot_be():
    with pytest.raises(ValueError, match="unknown method 'SGD': choose one of plain, momentum"):
        walk(LANDS[0], "SGD", 0.1, 1)
    with pytest.raises(ValueError, match=r"plain on Rosenbrock left for infinity at step \d+: lower the rate, 0.1"):
        walk(LANDSCAPES["Rosenbrock"], "plain", 0.1, 100)
    with pytest.raises(ValueError, match="a walk of -1 steps: give 0 or more"):
        walk(LANDS[0], "plain", 0.1, -1)
    for start, rate in (([1.0], 0.1), ([1.0, 2.0, 3.0], 0.1), ([1.0, np.nan], 0.1), ([1.0, 2.0], np.inf)):
        with pytest.raises(ValueError, match="give two finite numbers, and a finite rate"):
            walk(LANDS[0], "plain", rate, 2, np.array(start))
    with pytest.raises(ValueError, match="Newton on bowl came to a point whose Hessian cannot be inverted"):
        walk(bowl(0.0), "Newton", 1.0, 2)


def test_rates_that_cannot_be():
    with pytest.raises(ValueError, match="curves up in no direction"):
        bound(np.array([-2.0, 0.0]))
    path = walk(LANDSCAPES["bowl"], "Newton", 1.0, 2)  # arrives in one step
    assert measured(path[:2]) == 0.0
    with pytest.raises(ValueError, match="had arrived before its last step"):
        measured(path)
    with pytest.raises(ValueError, match="no step to measure"):
        measured(path[:1])


def test_at_its_best_never_climbs_and_every_method_arrives_on_the_bowl():
    land = LANDSCAPES["bowl"]
    for method in METHODS:
        _, path = chapter.at_its_best(land, method)
        height = land.value(path.T)
        assert height.max() == height[0]
        assert height[-1] < 1e-6


def test_pictures(tmp_path):
    from PIL import Image

    land = LANDSCAPES["saddle"]
    assert set(COLORS) == set(METHODS)
    assert (np.diff(heights(land)) > 0).all()
    walks = {"plain": walk(land, "plain", 0.1, 4)}
    films = [animate([land], [walks], 3, tmp_path / f"{i}.gif", every=2) for i in range(2)]
    assert films[0].read_bytes() == films[1].read_bytes()
    with Image.open(films[0]) as film:
        assert getattr(film, "n_frames", 1) == 3
    with pytest.raises(ValueError, match="a walk ends at step 4, the film at step 6"):
        animate([land], [walks], 4, tmp_path / "long.gif", every=2)


def test_rate_demo(tmp_path):
    lines = chapter.DEMOS["descent-rate"].draw(tmp_path)
    assert "2 / L is 0.08" in lines[0]
    assert len(lines) == 6
    assert (tmp_path / "rate.svg").stat().st_size < 1e6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["descent-methods", "descent-animation"])
def test_demos(name, tmp_path):
    assert chapter.DEMOS[name].draw(tmp_path)
    assert all(path.stat().st_size < 2e6 for path in tmp_path.iterdir())
