"""Metrics and regressions against scikit-learn: the checks of `cairn parity` with more seeds."""

import numpy as np
import pytest

from cairn.foundations import metrics
from cairn.parity import foundations_metrics as parity


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: check.part)
def test_check(check):
    pytest.importorskip("sklearn")
    assert max(check.run(seed) for seed in range(6)) <= check.tolerance


def test_the_checks_can_fail(monkeypatch):
    pytest.importorskip("sklearn")
    right = metrics.roc_curve

    def wrong(truth, score, positive=1, weights=None):
        """Ties passed one by one."""
        return right(truth, np.asarray(score) + 1e-9 * np.arange(len(score)), positive, weights)

    monkeypatch.setattr(metrics, "roc_curve", wrong)
    assert max(parity.ranking(seed) for seed in range(6)) > 1e-3
    monkeypatch.setattr(metrics, "accuracy", metrics.balanced_accuracy)
    assert max(parity.confusion(seed) for seed in range(6)) > 1e-3
