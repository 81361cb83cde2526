"""Schedules have the values their formulas promise, step by step."""

import math

import pytest

import lenet5c
from lenet5c.training import schedules


def test_constant_is_one():
    constant = schedules.SCHEDULES["constant"]
    assert [constant(step, 7, 3) for step in range(21)] == [1.0] * 21


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1.0), (5, 0.75), (7.5, 0.5), (10, 0.25), (15, 0.0)],
)
def test_cosine_falls_from_one_to_zero(step, factor):
    assert schedules.SCHEDULES["cosine"](step, 5, 3) == pytest.approx(factor, abs=1e-15)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.04),
        (5, 0.52),
        (10, 1.0),
        (20, 0.75),
        (25, 0.5),
        (30, 0.25),
        (39, 0.5 * (1 + math.cos(math.pi * 29 / 30))),
    ],
)
def test_one_cycle_rises_for_a_quarter_and_falls_to_zero(step, factor):
    one_cycle = schedules.SCHEDULES["one-cycle"]
    assert one_cycle(step, 10, 4) == pytest.approx(factor, abs=1e-15)


def test_one_cycle_never_leaves_zero_to_one():
    for warm_up in (0, 0.1, 0.25, 0.99):
        for steps in (1, 2, 3, 40):
            values = [schedules.OneCycle(warm_up)(i, steps, 1) for i in range(steps)]
            assert all(0 < value <= 1 for value in values)


def test_one_cycle_takes_another_warm_up():
    half = schedules.OneCycle(0.5)
    assert [half(step, 2, 2) for step in range(4)] == pytest.approx(
        [0.04, 0.52, 1, 0.5]
    )
    assert schedules.OneCycle(0)(0, 2, 2) == 1


@pytest.mark.parametrize("warm_up", [-0.1, 1, 1.5, math.nan, math.inf])
def test_one_cycle_refuses_a_share_that_is_none(warm_up):
    with pytest.raises(ValueError, match="warm_up"):
        schedules.OneCycle(warm_up)


def by_epoch(schedule, epochs: int, steps: int = 4) -> list[float]:
    """The factor of each epoch, which is the same in all of its steps."""
    found = []
    for epoch in range(epochs):
        values = {schedule(epoch * steps + i, steps, epochs) for i in range(steps)}
        assert len(values) == 1
        found.append(values.pop())
    return found


def test_step_is_one_then_a_tenth_then_a_hundredth():
    factors = by_epoch(schedules.Step((5, 8)), 10)
    assert factors == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] * 2)


def test_step_takes_another_factor_and_any_number_of_falls():
    assert by_epoch(schedules.Step((1, 2, 3), 0.5), 4) == [1, 0.5, 0.25, 0.125]
    assert by_epoch(schedules.Step(()), 3) == [1, 1, 1]


@pytest.mark.parametrize(
    ("epochs", "factors"),
    [
        (1, [1]),
        (2, [1, 0.1]),
        (3, [1, 1, 0.1]),
        (4, [1, 1, 0.1, 0.01]),
        (8, [1] * 4 + [0.1] * 2 + [0.01] * 2),
    ],
)
def test_step_by_name_falls_after_half_and_three_quarters(epochs, factors):
    found = by_epoch(schedules.SCHEDULES["step"], epochs)
    assert found == pytest.approx(factors)


def test_pieces_hold_for_their_epochs_and_the_last_to_the_end():
    pieces = schedules.Piecewise([(1, 1), (3, 0.25), (2, 2)])
    assert by_epoch(pieces, 8) == [1, *[0.25] * 3, *[2] * 4]
    assert by_epoch(pieces, 2) == [1, 0.25]  # whatever the number of epochs is


def test_the_paper_has_its_own_rates():
    factors = by_epoch(schedules.SCHEDULES["lenet5-1998"], 20)
    eta = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    assert [lenet5c.SDLM().learning_rate * f for f in factors] == pytest.approx(eta)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: schedules.OneCycle("a"), "warm_up"),
        (lambda: schedules.OneCycle(None), "warm_up"),
        (lambda: schedules.Step(5), "epochs"),
        (lambda: schedules.Step(("a",)), "epochs"),
        (lambda: schedules.Step((1,), "x"), "factor"),
        (lambda: schedules.Step((1,), None), "factor"),
        (lambda: schedules.Step((1,), math.nan), "factor"),
        (lambda: schedules.Piecewise(3), "pieces"),
        (lambda: schedules.Piecewise([]), "pieces"),
        (lambda: schedules.Piecewise([2, 1]), "pieces"),
        (lambda: schedules.Piecewise([(2, 1, 1)]), "pieces"),
        (lambda: schedules.Piecewise([(0, 1)]), "pieces"),
        (lambda: schedules.Piecewise([(2, -1)]), "pieces"),
        (lambda: schedules.Piecewise([(2, math.inf)]), "pieces"),
    ],
)
def test_bad_arguments_of_schedules_are_refused_by_name(make, argument):
    with pytest.raises((TypeError, ValueError), match=argument):
        make()


def test_a_function_is_a_schedule():
    def mine(step, steps_per_epoch, epochs):
        return 0.5

    assert schedules.as_schedule(mine) is mine
    assert schedules.as_schedule("step") is schedules.SCHEDULES["step"]


@pytest.mark.parametrize("schedule", ["linear", "", None, 3, 0.1, ["step"]])
def test_anything_else_is_refused(schedule):
    with pytest.raises(ValueError, match=r"schedule: expected .*'one-cycle'"):
        schedules.as_schedule(schedule)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("onecycle", "one-cycle"),
        ("OneCycle", "one-cycle"),
        ("cosine_annealing", "cosine"),
        ("reduce_on_plateau", "plateau"),
        ("stpe", "step"),
    ],
)
def test_a_name_that_is_nearly_a_schedules_is_refused_with_that(name, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        schedules.as_schedule(name)


def test_a_class_is_no_schedule():
    with pytest.raises(TypeError, match=r"^schedule: .* write OneCycle\(\)"):
        schedules.as_schedule(schedules.OneCycle)
