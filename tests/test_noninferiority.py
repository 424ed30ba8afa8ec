"""Verdicts on drops: numbers worked by hand, and the exact test against plain enumeration."""

import doctest
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from edgekit import noninferiority
from edgekit.noninferiority import (
    PValues,
    Verdict,
    alpha_of_look,
    holm,
    mcnemar_p_value,
    paired_p_values,
    power,
    samples_needed,
)
from edgekit.statistics import tango_score

_CALIBRATION = Path(__file__).parents[1] / "benchmarks" / "gate_calibration.py"

counts = st.integers(20, 400).flatmap(
    lambda n: st.tuples(st.integers(0, n // 3), st.integers(0, n // 3), st.just(n))
)
limits = st.sampled_from([0.0, 0.005, 0.01, 0.03, 0.1])


def test_the_examples_of_the_documentation_hold():
    # By name: a module called statistics stands beside it, and doctest would take it for Python's.
    tests = doctest.DocTestFinder().find(noninferiority)
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.tries >= 4
    assert runner.failures == 0


def test_without_discordant_pairs_it_is_a_power():
    for n, limit in itertools.product((50, 299, 1000), (0.01, 0.03)):
        found = paired_p_values(0, 0, n, limit)
        # No broken sample in n has the probability (1 - limit) ** n where nothing gets fixed.
        # Others with as good a score add to it where some may be fixed, but little.
        assert (1 - limit) ** n <= found.beyond < (1 - limit) ** n + 3e-4
        assert found.within == 1


def test_a_limit_of_nothing_is_the_sign_test():
    """With a limit of 0 the discordant pairs are coin tosses, whatever their share."""
    found = paired_p_values(10, 0, 1000, 0.0)
    # The sign test's own p-value is 2 ** -10; one that knows n too may be somewhat smaller.
    assert 2**-12 < found.within < 2**-9
    assert found.beyond > 0.99
    assert paired_p_values(10, 10, 1000, 0.0).within > 0.5


def brute_force(broken, fixed, n, limit, steps=1500):
    """The same p-values by summing over all outcomes, the unknown share of fixed samples on a fine grid everywhere."""
    grid = np.array([(b, c) for b in range(n + 1) for c in range(n + 1 - b)])
    scores = tango_score(grid[:, 0].astype(float), grid[:, 1].astype(float), n, limit)
    own = float(tango_score(float(broken), float(fixed), n, limit))
    outcomes = np.column_stack([grid, n - grid.sum(axis=1)])
    beyond = within = 0.0
    for share in np.linspace(0, (1 - limit) / 2, steps):
        p = multinomial.pmf(outcomes, n, [share + limit, share, max(0.0, 1 - limit - 2 * share)])
        beyond = max(beyond, p[scores <= own + 1e-9].sum())
        within = max(within, p[scores >= own - 1e-9].sum())
    return beyond, within


@pytest.mark.parametrize(("broken", "fixed"), [(0, 0), (2, 0), (0, 3), (4, 1), (6, 6), (12, 2)])
@pytest.mark.parametrize("limit", [0.0, 0.05])
def test_exact_p_values_are_those_of_enumeration(broken, fixed, limit):
    found = paired_p_values(broken, fixed, 40, limit)
    beyond, within = brute_force(broken, fixed, 40, limit, steps=300)
    # Searching a confidence set of the share instead of all shares may only make the test sharper.
    assert found.beyond <= beyond + 1e-4
    assert found.within <= within + 1e-4
    # In the middle it makes all the difference, where verdicts are made none.
    assert found.beyond >= min(0.2, beyond) - 0.02
    assert found.within >= min(0.2, within) - 0.02


@settings(max_examples=20, deadline=None)
@given(counts, limits)
def test_more_broken_samples_never_help_and_more_fixed_ones_never_harm(pairs, limit):
    broken, fixed, n = pairs
    found = paired_p_values(broken, fixed, n, limit)
    worse = paired_p_values(broken + 1, fixed, n, limit)
    better = paired_p_values(broken, fixed + 1, n, limit)
    # The confidence set of the unknown share moves along, which shows in p-values that decide nothing.
    for smaller, larger in (
        (found.beyond, worse.beyond),
        (worse.within, found.within),
        (better.beyond, found.beyond),
        (found.within, better.within),
    ):
        assert min(smaller, 0.3) <= larger + 2e-3
    assert found.beyond + found.within >= 1 - 1e-9


@settings(max_examples=20, deadline=None)
@given(counts, limits)
def test_a_negative_limit_exchanges_the_models(pairs, limit):
    broken, fixed, n = pairs
    one, other = paired_p_values(broken, fixed, n, -limit), paired_p_values(fixed, broken, n, limit)
    if limit:
        assert (one.beyond, one.within) == (other.within, other.beyond)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(130, 5000), limits)
def test_the_score_rises_with_broken_and_falls_with_fixed(broken, fixed, n, limit):
    here = tango_score(float(broken), float(fixed), n, limit)
    assert tango_score(broken + 1.0, float(fixed), n, limit) >= here
    assert tango_score(float(broken), fixed + 1.0, n, limit) <= here


def test_exact_and_normal_p_values_meet_where_one_gives_way_to_the_other():
    for broken, fixed, n in ((110, 90, 3000), (120, 80, 3000), (100, 100, 8000), (130, 70, 4000)):
        exact = paired_p_values(broken, fixed, n, 0.01)
        normal = NormalDist().cdf(float(tango_score(float(broken), float(fixed), n, 0.01)))
        assert exact.beyond == pytest.approx(normal, abs=0.004)
        assert exact.within == pytest.approx(1 - normal, abs=0.004)


@pytest.mark.parametrize("pairs", [(-1, 0, 10), (6, 5, 10), (0, 0, 0)])
def test_counts_that_are_none_are_refused(pairs):
    with pytest.raises(ValueError, match="pairs"):
        paired_p_values(*pairs, 0.01)


@pytest.mark.parametrize(
    ("p_values", "verdict"),
    [
        ((0.05, 0.9), "pass"),
        ((0.9, 0.05), "fail"),
        ((0.06, 0.97), "inconclusive"),
        ((0.5, 0.5), "inconclusive"),
    ],
)
def test_a_verdict_rejects_one_of_two(p_values, verdict):
    assert PValues(*p_values).verdict(0.05) is Verdict(verdict)


def size(n, limit, alpha, share):
    """The true error rates of both verdicts, by all outcomes that have any weight."""
    most = int(n * (2 * share + limit) + 8 * math.sqrt(n * (2 * share + limit) + 1)) + 3
    errors = {Verdict.PASS: 0.0, Verdict.FAIL: 0.0, Verdict.INCONCLUSIVE: 0.0}
    for broken, fixed in itertools.product(range(most), repeat=2):
        if broken + fixed > n:
            continue
        p = multinomial.pmf(
            [broken, fixed, n - broken - fixed], n, [share + limit, share, 1 - limit - 2 * share]
        )
        if p > 1e-9:
            errors[paired_p_values(broken, fixed, n, limit).verdict(alpha)] += p
    return errors[Verdict.PASS], errors[Verdict.FAIL]


@pytest.mark.parametrize(
    ("n", "limit", "alpha", "share"),
    [
        (100, 0.01, 0.05, 0.0),
        (100, 0.03, 0.05, 0.001),
        (300, 0.01, 0.05, 0.003),
        (300, 0.02, 0.03, 0.0),
        (600, 0.01, 0.001, 0.001),
    ],
)
def test_where_the_drop_is_the_limit_both_errors_keep_their_rate(n, limit, alpha, share):
    passed, failed = size(n, limit, alpha, share)
    assert passed <= alpha
    assert failed <= alpha


def test_power_is_the_sum_over_what_passes():
    n, discordance, limit = 500, 0.012, 0.01
    true = (discordance / 2, discordance / 2, 1 - discordance)
    total = sum(
        multinomial.pmf([broken, fixed, n - broken - fixed], n, true)
        for broken, fixed in itertools.product(range(16), repeat=2)
        if paired_p_values(broken, fixed, n, limit).verdict(0.05) is Verdict.PASS
    )
    assert power(n, discordance, 0.0, limit) == pytest.approx(total, abs=0.02)


@pytest.mark.parametrize(("discordance", "drop"), [(0.01, 0.0), (0.03, 0.02), (0.1, 0.0), (0.05, 0.03)])
def test_the_planned_number_has_the_planned_power(discordance, drop):
    n = samples_needed(discordance, drop, 0.01)
    assert power(n, discordance, drop, 0.01) == pytest.approx(0.81, abs=0.015)
    assert power(n // 2, discordance, drop, 0.01) < 0.7


def test_there_is_no_plan_for_a_drop_at_the_limit_or_beyond_what_differs():
    with pytest.raises(ValueError, match="drop"):
        samples_needed(0.05, 0.01, 0.01)
    with pytest.raises(ValueError, match="drop"):
        samples_needed(0.01, 0.02, 0.01)


def test_mcnemar_by_hand():
    # 2 * (1 + 8) / 2 ** 8 for 1 against 7
    assert mcnemar_p_value(7, 1) == pytest.approx(18 / 256)
    assert mcnemar_p_value(0, 0) == 1
    assert mcnemar_p_value(4, 4) == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_closed_test_with_bonferroni(p_values):
    """A hypothesis is rejected if every set of hypotheses that it is in is, by its smallest p-value times its size."""
    found = holm(p_values)
    for index in range(len(p_values)):
        others = [other for other in range(len(p_values)) if other != index]
        sets = (
            (index, *more) for size in range(len(others) + 1) for more in itertools.combinations(others, size)
        )
        closed = max(min(1.0, len(one) * min(p_values[member] for member in one)) for one in sets)
        assert found[index] == pytest.approx(closed)


def test_all_looks_together_spend_alpha():
    spent = math.fsum(alpha_of_look(0.05, look) for look in range(1, 100_000))
    assert 0.0499 < spent < 0.05


@pytest.mark.slow
def test_the_gate_is_right_as_often_as_it_says(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(_CALIBRATION),
            "--quick",
            "--json",
            str(tmp_path / "c.json"),
            "--plot",
            str(tmp_path / "c.svg"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all claims hold\n")
    assert (tmp_path / "c.svg").read_text().startswith("<svg")
    rows = json.loads((tmp_path / "c.json").read_text())["false_alarms"]
    cell = next(
        r for r in rows if (r["n"], r["limit"], r["discordance"], r["accuracy"]) == (100, 0.01, 0.02, 0.9)
    )
    passed, failed = size(100, 0.01, 0.05, 0.005)
    assert cell["pass"] == pytest.approx(passed, abs=0.006)
    assert cell["fail"] == pytest.approx(failed, abs=0.006)
