"""What the running bridge warns of at its start, as `check` does."""

from bridge import wait_until

OPEN = "[http] listen: whoever reaches"
PUBLIC = "[mercure] jwt_secret: is the example of Mercure's documentation"


def wait_start(bridge):
    bridge.start(wait=False)
    wait_until(lambda: "Listening on" in bridge.log(), 20, "the page is there")
    return bridge.log()


def test_the_running_bridge_warns_of_weak_guarantees(bridge):
    bridge.settings["http"]["listen"] = f"0.0.0.0:{bridge.http_port}"
    bridge.settings["mercure"]["jwt_secret"] = "!ChangeThisMercureHubJWTSecretKey!"
    log = wait_start(bridge)
    for warning in (OPEN, PUBLIC):
        assert log.count(warning) == 1, log
        assert any("WARNING" in line for line in log.splitlines() if warning in line)
        assert "warning: " in bridge.cli("check").stderr and warning in bridge.cli("check").stderr


def test_a_bridge_on_loopback_with_its_own_secret_has_no_warnings(bridge):
    log = wait_start(bridge)
    assert OPEN not in log and PUBLIC not in log
    assert "[http]" not in bridge.cli("check").stderr and PUBLIC not in bridge.cli("check").stderr
