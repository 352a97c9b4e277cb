"""The histogram knows percentiles to a few per cent in fixed memory."""

import math

import numpy as np
import pytest

from hardware.realtime.histogram import Histogram


def filled(values):
    histogram = Histogram()
    for value in values:
        histogram.record(float(value))
    return histogram


@pytest.mark.parametrize("percent", [1.0, 50.0, 99.0, 99.9])
def test_percentiles_agree_with_those_of_the_samples(percent):
    samples = np.random.default_rng(0).lognormal(-7.0, 1.0, 20_000)
    expected = np.percentile(samples, percent, method="inverted_cdf")
    assert filled(samples).percentile(percent) == pytest.approx(expected, rel=0.035)


def test_count_mean_and_maximum_are_exact():
    result = filled([0.001, 0.002, 0.009]).to_dict()
    assert result["count"] == 3
    assert result["mean"] == pytest.approx(0.004)
    assert result["max"] == 0.009
    assert result["p99"] <= 0.009


def test_extremes_are_counted_and_never_lost():
    histogram = filled([-1.0, 0.0, 1e-9, 1e6, math.nan, math.inf])
    assert histogram.count == 6
    assert histogram.max == 1e6
    assert histogram.percentile(10.0) < 2e-6


def test_memory_is_fixed():
    histogram = Histogram()
    size = len(histogram._counts)
    for k in range(10_000):
        histogram.record(k * 1e-3)
    assert len(histogram._counts) == size


def test_merge_is_as_if_all_had_been_recorded_in_one():
    rng = np.random.default_rng(1)
    a, b = rng.exponential(0.01, 100), rng.exponential(0.1, 50)
    merged = filled(a)
    merged.merge(filled(b))
    assert merged.to_dict() == pytest.approx(filled(np.concatenate([a, b])).to_dict())


def test_empty_histogram_is_plain_data_and_bad_percent_is_refused():
    assert filled([]).to_dict() == {"count": 0, "mean": 0.0, "p50": 0.0, "p99": 0.0, "max": 0.0}
    assert math.isnan(filled([]).percentile(50.0))
    with pytest.raises(ValueError, match="0 to 100"):
        filled([1.0]).percentile(101.0)


def test_a_histogram_comes_back_from_its_numbers():
    original = filled([1e-5, 2e-3, 2e-3, 0.3])
    again = Histogram.restore(original.counts, original.sum, original.max)
    assert again.to_dict() == original.to_dict()
