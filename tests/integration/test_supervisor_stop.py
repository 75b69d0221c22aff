"""How the supervisor ends its children and itself."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time

import pytest
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


def test_a_child_that_does_not_end_in_time_is_killed(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "300ms"}})
    stubs.behave("worker:1", "ignore-term")
    stubs.start()
    assert stubs.stop() == 0
    assert "worker:1 has not ended within 300 ms: killed" in stubs.log()


def test_the_whole_stop_takes_no_longer_than_stop_timeout(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "4s"}, "worker": {"count": 2}})
    for title in ("consumer", "worker", "monitor"):
        stubs.behave(title, "ignore-term")
    stubs.start()
    began = time.monotonic()
    stubs.supervisor.send(signal.SIGTERM)
    wait_until(lambda: stubs.events("worker:1", "term"), 10, "the workers drain though the consumer is there")
    assert 1.9 < time.monotonic() - began
    assert stubs.supervisor.wait() == 0
    assert time.monotonic() - began < 9, "each of the three by itself would have 4 s"
    assert "consumer has not ended within 4000 ms: killed" in stubs.log()


def test_a_child_stopped_before_does_not_delay_the_service_stop(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "3s"}})
    stubs.behave("worker:1", "ignore-term")
    stubs.start()
    stubs.ask("stop", target="worker:1")
    began = time.monotonic()
    assert stubs.stop() == 0
    assert time.monotonic() - began < 5.5, "it would have 3 s twice"


def test_nobody_is_replaced_while_the_service_ends(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "60s"}})
    stubs.behave("consumer", "hold-stop")
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    stubs.supervisor.send(signal.SIGTERM)
    wait_until(lambda: stubs.events("consumer:1", "term"), 15, "the consumer is asked to end")
    assert not stubs.events("worker:1", "term"), "the workers don't drain yet"
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "worker:1 ended (signal SIGKILL)" in stubs.log(), 15, stubs.log)
    stubs.release()
    assert stubs.supervisor.wait() == 0
    assert len(stubs.events("worker:1", "start")) == 1


def test_sigquit_ends_at_once(make_stubs):
    stubs = make_stubs()
    for title in ("consumer", "worker", "monitor"):
        stubs.behave(title, "ignore-term")
    stubs.start()
    began = time.monotonic()
    assert stubs.stop(with_signal=signal.SIGQUIT) == 0
    assert time.monotonic() - began < 6, "stop_timeout is 10 s"
    assert not stubs.events(what="term")


def test_a_second_sigint_ends_at_once(make_stubs):
    stubs = make_stubs()
    stubs.behave("consumer", "ignore-term")
    stubs.start()
    stubs.supervisor.send(signal.SIGINT)
    wait_until(lambda: stubs.events("consumer:1", "term"), 15, "the consumer is asked to end")
    began = time.monotonic()
    assert stubs.stop(with_signal=signal.SIGINT) == 0
    assert time.monotonic() - began < 6, "stop_timeout is 10 s"


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
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "60s"}})
    stubs.behave("worker", "hold-stop")
    stubs.start()
    command = subprocess.Popen([stubs.programs / "mqtt-bridge", "stop"], stdout=subprocess.PIPE, text=True,
                               cwd=stubs.folder, env=stubs.environment())
    wait_until(lambda: stubs.events("worker:1", "term"), 10, "the workers drain")
    crowd = [stubs.connect() for _ in range(20)]
    stubs.release()
    assert command.communicate(timeout=20) == ("stopped\n", None) and command.returncode == 0
    assert len(stubs.events(what="end")) == 4, "all had ended before it said so"
    for connection in crowd:
        connection.close()
    assert stubs.supervisor.wait() == 0


def test_many_waiting_stop_commands_do_not_block_status(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "60s"}})
    stubs.behave("worker", "hold-stop")
    stubs.start()
    crowd = [stubs.connect(timeout=20) for _ in range(16)]
    for connection in crowd:
        connection.send(b'{"verb":"stop"}')
    wait_until(lambda: stubs.events("worker:1", "term"), 10, "the workers drain")
    for _ in range(3):
        assert stubs.run_cli("status").returncode == 0
    one_more = stubs.run_cli("stop")
    assert one_more.returncode == 1 and "the service is stopping, but too many commands wait" in one_more.stderr
    stubs.release()
    for connection in crowd:
        assert json.loads(connection.recv(1000))["ok"], "none of them gave way"
        connection.close()
    assert stubs.supervisor.wait() == 0


def take_terminal():
    """As a shell does. The tests themselves may run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def on_terminal(make_stubs):
    """The supervisor as leader of a terminal's session, and our end of the terminal."""
    stubs = make_stubs()
    stubs.write_config()
    here, terminal = pty.openpty()
    with open(stubs.folder / "terminal.log", "ab") as log:
        process = subprocess.Popen([stubs.programs / "mqtt-bridge-supervisor", "--config", stubs.config],
                                   cwd=stubs.folder, env=stubs.environment(), stdin=terminal, stdout=log, stderr=log,
                                   start_new_session=True,
                                   preexec_fn=take_terminal)
    os.close(terminal)
    wait_until(lambda: "All processes run" in (stubs.folder / "terminal.log").read_text(), 20, "everything runs")
    yield stubs, process, here
    if process.poll() is None:
        process.kill()
    process.wait()


def test_closing_its_terminal_ends_the_bridge_in_order(on_terminal):
    stubs, process, here = on_terminal
    os.close(here)
    assert process.wait(20) == 0
    log = (stubs.folder / "terminal.log").read_text()
    assert "Terminal closed: stopping the service" in log and "Settings reloaded" not in log
    assert stubs.events("worker:1", "end")


def test_a_hangup_from_a_person_on_a_terminal_is_a_reload(on_terminal):
    stubs, process, here = on_terminal
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "Settings reloaded" in (stubs.folder / "terminal.log").read_text(), 15, "it has reloaded")
    assert process.poll() is None
    os.close(here)
    assert process.wait(20) == 0
