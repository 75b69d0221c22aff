"""kill -9 of every program at random moments, under load."""

import os
import signal

import pytest
from bridge import wait_until
from bridge.entries import failed_rows
from bridge.process import children_of
from load import PATIENCE, Load


@pytest.mark.parametrize("program", ["consumer", "worker", "monitor"])
def test_a_child_killed_at_random_moments_loses_nothing(bridge, load, database, rng, program):
    bridge.start()
    load.start(6000, rate=2500)
    kills = 0
    while load.goes_on(rng.randint(300, 1200)):
        bridge.kill_child(program, rng.randrange(len(bridge.pids(program)) or 1))
        kills += 1
    result = load.finish()
    print({k: v for k, v in result.repeated.items()}, len(result.unmarked))
    assert kills >= 3
    assert failed_rows(database) == []
    if program == "monitor":
        result.assert_exactly_once()
    result.assert_repeats_recognisable()
    bridge.wait_ready(PATIENCE)
    assert bridge.stop() == 0
