"""How the supervisor ends its children and itself."""

import os
import signal
import subprocess
import time

from bridge import wait_until
from bridge.stubs import wait_proven


def test_sigterm_ends_consumers_then_workers_then_the_monitor(make_stubs):
    stubs = make_stubs(settings={"consumer:garden": {"topics": "garden/#"}})
    for title in ("consumer", "consumer:garden:1", "worker"):
        stubs.behave(title, "slow-stop 150")
    stubs.start()
    assert stubs.stop() == 0
    order = [(name, what) for name, _, what in stubs.events() if what in ("term", "end")]
    at = {event: order.index(event) for event in order}
    for consumer in ("consumer:1", "consumer:garden:1"):
        for worker in ("worker:1", "worker:2"):
            assert at[(consumer, "end")] < at[(worker, "term")]
            assert at[(worker, "end")] < at[("monitor:1", "term")]
    assert stubs.log().rstrip().splitlines()[-1].count("Stopped") == 1


def test_who_does_not_end_in_time_is_killed(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "300ms"}})
    stubs.behave("worker:1", "ignore-term")
    stubs.start()
    assert stubs.stop() == 0
    assert "worker:1 has not ended within 300 ms: killed" in stubs.log()


def test_nobody_is_replaced_while_the_service_ends(make_stubs):
    stubs = make_stubs()
    stubs.behave("consumer", "slow-stop 700")
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    stubs.supervisor.send(signal.SIGTERM)
    wait_until(lambda: stubs.events("consumer:1", "term"), 5, "the consumer is asked to end")
    os.kill(pid, signal.SIGKILL)
    assert stubs.supervisor.wait() == 0
    assert len(stubs.events("worker:1", "start")) == 1


def test_sigquit_ends_at_once(make_stubs):
    stubs = make_stubs()
    for title in ("consumer", "worker", "monitor"):
        stubs.behave(title, "ignore-term")
    stubs.start()
    began = time.monotonic()
    assert stubs.stop(with_signal=signal.SIGQUIT) == 0
    assert time.monotonic() - began < 2
    assert not stubs.events(what="term")


def test_a_second_sigint_ends_at_once(make_stubs):
    stubs = make_stubs()
    stubs.behave("consumer", "ignore-term")
    stubs.start()
    stubs.supervisor.send(signal.SIGINT)
    wait_until(lambda: stubs.events("consumer:1", "term"), 5, "the consumer is asked to end")
    began = time.monotonic()
    assert stubs.stop(with_signal=signal.SIGINT) == 0
    assert time.monotonic() - began < 2


def test_the_stop_command_returns_when_everything_has_ended(make_stubs):
    stubs = make_stubs()
    stubs.behave("worker", "slow-stop 300")
    stubs.start()
    result = stubs.run_cli("stop")
    assert (result.returncode, result.stdout) == (0, "stopped\n"), result.stderr
    assert len(stubs.events(what="end")) == 4
    assert stubs.supervisor.wait() == 0
    # The place is free at that moment.
    stubs.start()


def test_the_stop_command_is_not_pushed_out_by_others(make_stubs):
    stubs = make_stubs()
    stubs.behave("worker", "slow-stop 3000")
    stubs.start()
    command = subprocess.Popen([stubs.programs / "mqtt-bridge", "stop"], stdout=subprocess.PIPE, text=True,
                               cwd=stubs.folder, env=stubs.environment())
    wait_until(lambda: stubs.events("worker:1", "term"), 10, "the workers drain")
    crowd = [stubs.connect() for _ in range(20)]
    assert command.communicate(timeout=20) == ("stopped\n", None) and command.returncode == 0
    assert len(stubs.events(what="end")) == 4, "all had ended before it said so"
    for connection in crowd:
        connection.close()
    assert stubs.supervisor.wait() == 0
