"""`mqtt-bridge publish`: one update to the hub, and what is printed when it does not take it."""

import http.server
import json
import re
import subprocess
import threading

import pytest
from bridge import build_folder, jwt
from bridge.process import free_port


@pytest.fixture
def publish(make_bridge, hub):
    bridge = make_bridge(hub=hub)

    def run(*arguments, code=0, data=None):
        bridge.write_config()
        answer = subprocess.run([build_folder() / "mqtt-bridge", "publish", *arguments], capture_output=True, timeout=30,
                                env=bridge.environment(), input=data)
        assert answer.returncode == code, answer
        return answer.stdout.decode() if code == 0 else answer.stderr.decode()
    run.bridge = bridge
    return run


def test_an_update_reaches_a_subscriber_and_its_id_is_printed(publish, sse):
    said = publish("sensors/é", '{"temp":21.5}')
    event = sse.wait_count(1)[0]
    assert event.data == '{"temp":21.5}'
    assert re.fullmatch(rf"{event.id} published at \d{{4}}-\d\d-\d\dT[\d:.]+Z in [\d.]+ ms\n", said)
    answer = json.loads(publish("a", "x", "--id", "urn:x:1", "--type", "clock", "--json"))
    assert (answer["id"], answer["topic"], answer["private"]) == ("urn:x:1", "a", False) and answer["took_ms"] > 0
    event = sse.wait_count(2)[1]
    assert (event.id, event.data) == ("urn:x:1", "x")


def test_data_may_come_from_standard_input(publish, sse):
    data = b"line 1\nline 2 \xc3\xa9"
    publish("a", "-", data=data)
    assert sse.wait_count(1)[0].data == data.decode()
    publish("a", "--", "--json")
    assert sse.wait_count(2)[1].data == "--json"


def test_a_private_update_needs_a_token_to_be_seen(publish, sse, make_sse, hub):
    allowed = make_sse("*", token=jwt(hub.subscriber_key))
    publish("a", "secret", "--private")
    publish("a", "public")
    assert [event.data for event in allowed.wait_count(2)] == ["secret", "public"]
    assert [event.data for event in sse.wait_count(1)] == ["public"]


@pytest.fixture
def answering(request):
    """A server that answers with a status."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield request.param, f"http://127.0.0.1:{server.server_port}/hub"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("answering", [200, 204, 302, 400, 401, 403, 404, 405, 407, 413, 418, 421, 429, 500, 502, 503],
                         indirect=True)
def test_each_answer_of_the_hub_is_reported_with_its_remedy(publish, answering):
    status, url = answering
    publish.bridge.settings["mercure"]["url"] = url
    said = publish("a", "x", code=1)
    assert f"(HTTP {status})" in said and url in said and said.count("\n") == 1
    mend = {200: "lead to a hub", 204: "lead to a hub", 302: "leads to", 400: "the hub's log", 401: "MERCURE_JWT_SECRET",
            403: "publish this topic", 404: ".well-known/mercure", 405: ".well-known/mercure", 407: "http_proxy",
            413: "larger than", 418: "lead to a hub", 421: "SERVER_NAME", 429: "limit", 500: "the hub's log",
            502: "the hub's log", 503: "wait a little"}[status]
    assert mend in said.split("; ")[-1]


def test_a_hub_that_is_away_and_a_wrong_key_are_reported(publish):
    url = publish.bridge.settings["mercure"]["url"]
    publish.bridge.settings["mercure"]["jwt_secret"] = "wrong-key-0123456789-0123456789-0123456789"
    said = publish("a", "x", code=1)
    assert "MERCURE_JWT_SECRET" in said and "wrong-key" not in said
    publish.bridge.settings["mercure"]["url"] = f"http://127.0.0.1:{free_port()}/hub"
    assert "is the hub running" in publish("a", "x", code=1)
    publish.bridge.settings["mercure"]["url"] = None
    assert "MERCURE_URL" in publish("a", "x", code=2)
    publish.bridge.settings["mercure"]["url"] = url


@pytest.mark.parametrize("arguments, word", [
    (["", "x"], "topic"),
    (["x/.well-known/mercure/y", "x"], "well-known"),
    (["a", "x", "--type", "two\nlines"], "type"),
])
def test_publish_refuses_a_topic_or_type_that_no_hub_accepts(publish, arguments, word):
    said = publish(*arguments, code=1)
    assert "not sent" in said and word in said
