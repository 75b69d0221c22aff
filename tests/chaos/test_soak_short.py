"""Some rounds of the soak (tests/soak), smaller and with seeds that stay the same: `make soak` is the long form."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soak"))

from soak_round import Round  # noqa: E402
from soak_settings import draw, draw_slow  # noqa: E402

pytestmark = pytest.mark.own_core

SEED = "short"
ROUNDS = {"backlog at QoS 1": draw(SEED, 0, 0.5), "broker at QoS 2": draw(SEED, 1, 0.4),
          "set back at QoS 2": draw(SEED, 3, 0.4), "network at QoS 2": draw(SEED, 5, 0.4),
          "backlog at QoS 2": draw(SEED, 6, 0.4), "broker at QoS 1": draw(SEED, 7, 0.5),
          "slow link": draw_slow(SEED, 0, 100_000, 20_000)}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("settings", ROUNDS.values(), ids=ROUNDS)
def test_a_round_of_seeded_faults_loses_nothing_and_repeats_little(folder, settings):
    result = Round(folder, settings, print).run()
    assert result.passed, "\n".join([str(settings), ", ".join(result.breaks), *result.faults])
