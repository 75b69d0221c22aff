"""Our workers and PHP's on one stream and group, killed at random moments under load."""

import os
import signal

from bridge import wait_until
from load import PATIENCE


def test_our_workers_and_php_s_killed_now_and_then_lose_nothing(bridge, load, redis, make_php_peer, rng):
    """PHP's workers share a consumer name, as they do by default; what they leave is taken over or swept."""
    options = {"redeliver_timeout": 3, "claim_interval": 1000, "delete_after_ack": 1}
    bridge.settings["transport:async"]["dsn"] = redis.dsn(**options)
    bridge.settings["worker"]["count"] = 2
    bridge.start()
    peer = make_php_peer(dsn=redis.dsn(**options))
    # Without it a consumer of PHP's that finds nothing sleeps for a second, while ours take everything.
    theirs = [peer.start_consumer("--sleep=0.001"), peer.start_consumer("--sleep=0.001")]
    load.start(2500, rate=350)
    kills = 0
    while load.goes_on(rng.randint(50, 300)):
        kills += 1
        if rng.random() < 0.5:
            os.kill(rng.choice(wait_until(lambda: bridge.pids("worker"), PATIENCE, "a worker runs")), signal.SIGKILL)
            continue
        victim = rng.choice(theirs)
        victim.kill()
        victim.start()
    load.wait_published()

    def handled():
        by_ours = {event.payload for event in load.sse.events}
        by_php = {message["payload"].decode() for message in peer.handled()}
        return by_ours, by_php
    sent = {payload for _, payload in load.sent}
    wait_until(lambda: set.union(*handled()) == sent, PATIENCE, every=0.2,
               what=lambda: f"{len(sent)} are handled; {[len(part) for part in handled()]} so far")
    load.wait_drained()
    ours, php = handled()
    assert kills >= 3 and ours and php, "both took part"
