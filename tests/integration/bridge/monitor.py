"""The monitor's answers over HTTP."""

import http.client
import json

from . import wait_until
from .process import port_is_open


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.text)


def request(bridge, path, method="GET", headers=None, host="127.0.0.1"):
    """Sends the path as it is, unlike most clients."""
    connection = http.client.HTTPConnection(host, bridge.http_port, timeout=10)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True, skip_host="Host" in (headers or {}))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        return Answer(connection.getresponse())
    finally:
        connection.close()


def start_monitor(bridge, headers=None, env=None):
    """Starts a monitor without a supervisor; returns its Process when it has asked every server once."""
    monitor = bridge.run_program("monitor", env=env)
    wait_until(lambda: not monitor.is_running() or port_is_open(bridge.http_port), 10,
               lambda: f"the monitor listens\n{monitor.log_tail()}")
    assert monitor.is_running(), monitor.log_tail()
    wait_until(lambda: "not asked yet" not in request(bridge, "/readyz", headers=headers).text, 10, "the first probe")
    return monitor
