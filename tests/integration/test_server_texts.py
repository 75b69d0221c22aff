"""Error texts of servers: what they hold for the operator's terminal does not reach it."""

import json
import re
import socket
import threading

import pytest
from bridge import wait_until
from bridge.monitor import request
from bridge.relays import accept_clients, shut

# Sets a terminal's title; a C1 control as UTF-8 and as a bare byte; half a character.
TEXT = b"\x1b]0;owned\x07 \xc2\x9b31m \x9b31m \x7f \xe2\x82"
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Rude:
    """A server that answers whatever it is sent with one text."""

    def __init__(self, answer):
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        accept_clients(self.listener, self._welcome)

    def _welcome(self, client):
        threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            try:
                while client.recv(65536):
                    client.sendall(self.answer)
            except OSError:
                pass

    def close(self):
        shut(self.listener)


@pytest.fixture
def rude_bridge(bridge):
    redis = Rude(b"-ERR " + TEXT + b"\r\n")
    hub = Rude(b"HTTP/1.1 500 " + TEXT + b"\r\nContent-Length: %d\r\n\r\n" % len(TEXT) + TEXT)
    bridge.settings["transport:async"]["dsn"] = f"redis://127.0.0.1:{redis.port}/messages"
    bridge.settings["mercure"]["url"] = f"http://127.0.0.1:{hub.port}/.well-known/mercure"
    bridge.start(wait=False)
    yield bridge
    redis.close()
    hub.close()


def assert_printable(name, text):
    found = FORBIDDEN.search(text)
    assert found is None, f"{name} holds {found[0]!r}: {text[max(0, found.start() - 60):found.end() + 60]!r}"


def test_servers_texts_are_printed_without_control_characters(rude_bridge):
    bridge = rude_bridge
    wait_until(lambda: "Listening on" in bridge.log(), 20, "the page is there")
    wait_until(lambda: request(bridge, "/readyz").text.count("owned") >= 4, 20,
               lambda: f"Redis's and the hub's text: {request(bridge, '/readyz').text}")
    for path in ("/readyz", "/status", "/metrics"):
        answer = request(bridge, path)
        assert "\ufffd" not in answer.text, f"{path} is no UTF-8"
        assert_printable(path, answer.text)
    for path in ("/readyz", "/status"):
        for reason in request(bridge, path).json["reasons"]:
            assert_printable(path, reason)
    for arguments in (["status"], ["status", "--json"], ["health"], ["check", "--connect"],
                      ["check", "--connect", "--json"]):
        result = bridge.cli(*arguments, check=False)  # which decodes it strictly
        assert "owned" in result.stdout + result.stderr, arguments
        assert_printable(arguments, result.stdout + result.stderr)
    for reason in json.loads(bridge.cli("status", "--json", check=False).stdout)["reasons"]:
        assert_printable("status --json", reason)
    assert "owned" in bridge.log()
    assert_printable("the log", bridge.log())
