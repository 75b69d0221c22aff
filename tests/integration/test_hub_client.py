"""client/hub against the real Mercure hub."""

import http.server
import os
import ssl
import threading
from pathlib import Path
from urllib.parse import urlencode

import pytest
from bridge import jwt, wait_until
from bridge.authority import Authority
from drivers import Driver, build_driver, drivers_of

PASSED, FAILED, LIMITED, REFUSED, UNAUTHORIZED = range(5)
USAGE = -2


@pytest.fixture(scope="module")
def program():
    return build_driver("hub_driver")


class HubDriver(Driver):
    def __init__(self, program, folder, url, secret="-", token="-", connections=4, timeout_ms=5000,
                 name="driver"):
        super().__init__(program, [url, secret or "-", token or "-", connections, timeout_ms], folder, name)

    def send(self, id="urn:x:1", timeout=15.0, **fields):
        """Outcome, status, text."""
        form = urlencode({"topic": "t", "data": "1", **fields, "id": id})
        outcome, status, text = self.ask("send", id, form, timeout=timeout).split(" ", 2)
        return int(outcome), int(status), text


@pytest.fixture
def make_driver(program, folder):
    with drivers_of(HubDriver, program, folder) as make:
        yield make


@pytest.fixture
def driver(make_driver, hub):
    return make_driver(hub.url, secret=hub.publisher_key)


def test_an_update_reaches_a_subscriber_under_its_id(driver, sse):
    assert driver.send("urn:x:é", topic="a/b", data="line é+ &=%") == (PASSED, 200, "")
    event = sse.wait_count(1)[0]
    assert (event.id, event.data) == ("urn:x:é", "line é+ &=%")


def test_a_refused_update_reports_the_hubs_status_and_text(driver):
    outcome, status, text = driver.send("urn:x:1", retry="soon")
    assert (outcome, status) == (REFUSED, 400) and "refused" in text and "retry" in text
    outcome, status, _ = driver.send("urn:x:1", topic="https://h/.well-known/mercure/x")
    assert (outcome, status) == (REFUSED, 403)
    assert driver.send("urn:x:2") == (PASSED, 200, "")


def test_a_wrong_key_waits_and_is_never_shown(make_driver, hub):
    secret = "wrong-key-0123456789-0123456789-0123456789"
    driver = make_driver(hub.url, secret=secret)
    for _ in range(2):
        outcome, status, text = driver.send()
        assert (outcome, status) == (UNAUTHORIZED, 401) and "token" in text
    assert secret not in driver.log() and "eyJ" not in driver.log()


def test_a_given_token_is_used_as_it_is(make_driver, hub):
    assert make_driver(hub.url, token=jwt(hub.publisher_key)).send() == (PASSED, 200, "")
    outcome, status, _ = make_driver(hub.url, token=jwt(hub.publisher_key, expires_in=-3600)).send()
    assert (outcome, status) == (UNAUTHORIZED, 401)


def test_a_hub_that_is_away_waits_and_is_found_again(make_driver, make_hub):
    hub = make_hub()
    driver = make_driver(hub.url, secret=hub.publisher_key)
    assert driver.send("urn:x:1") == (PASSED, 200, "")
    hub.stop()
    outcome, status, text = driver.send("urn:x:2")
    assert (outcome, status) == (FAILED, 0) and hub.url in text and "connect" in text.lower()
    hub.start()
    assert driver.send("urn:x:2") == (PASSED, 200, "")
    hub.restart()
    assert driver.send("urn:x:3") == (PASSED, 200, ""), "a kept connection that was closed is not noticed"


def test_a_frozen_hub_is_given_up(make_driver, make_hub):
    hub = make_hub()
    driver = make_driver(hub.url, secret=hub.publisher_key, timeout_ms=500)
    assert driver.send("urn:x:1") == (PASSED, 200, "")
    hub.freeze()
    outcome, status, text = driver.send("urn:x:2", timeout=5)
    assert (outcome, status) == (FAILED, 0) and "timed out" in text.lower()
    hub.thaw()
    assert driver.send("urn:x:3") == (PASSED, 200, "")


def test_a_large_update_needs_no_permission_to_continue(driver, sse):
    assert driver.send("urn:x:1", data="x" * 3_000_000) == (PASSED, 200, "")
    assert len(sse.wait_count(1)[0].data) == 3_000_000


def test_a_burst_keeps_the_order_of_each_topic(make_driver, hub, make_sse):
    sse = make_sse("*")
    driver = make_driver(hub.url, secret=hub.publisher_key, connections=16)
    word, done, others, _ = driver.ask("burst", 5000, 64, timeout=60).split()
    assert (word, done, others) == ("burst", "5000", "0")
    numbers = {}
    for event in sse.wait_count(5000, 30):
        topic, number = event.id.rsplit(":", 1)
        assert int(number) == numbers.get(topic, -1) + 1, event
        numbers[topic] = int(number)
    assert len(numbers) == 64


def test_no_connection_is_opened_for_each_request(make_driver, hub):
    driver = make_driver(hub.url, secret=hub.publisher_key, connections=16)
    driver.ask("burst", 200, 64, timeout=30)
    before = _sockets(driver.pid)
    driver.ask("burst", 2000, 64, timeout=30)
    assert 0 < len(before) <= 18
    assert _sockets(driver.pid) == before


def _sockets(pid):
    """Its TCP connections by inode: a new one is another number."""
    links = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return {line.split()[9] for line in lines if f"socket:[{line.split()[9]}]" in links}


def test_publish_once_says_what_became_of_it(make_driver, hub, make_hub):
    form = urlencode({"topic": "t", "data": "1", "id": "urn:x:1"})
    driver = make_driver(hub.url, secret=hub.publisher_key)
    assert driver.ask("once", "urn:x:1", form) == f"0 {PASSED} 200 "
    assert driver.ask("once", "urn:x:1", form + "&retry=x").startswith(f"0 {REFUSED} 400 ")
    away = make_hub()
    gone = make_driver(away.url, secret=away.publisher_key)
    away.stop()
    assert gone.ask("once", "urn:x:1", form).startswith(f"0 {FAILED} 0 ")


@pytest.mark.parametrize("url, secret, said", [
    ("", "s" * 32, "MERCURE_URL"),
    ("hub:3000", "s" * 32, "MERCURE_URL"),
    ("ftp://hub/", "s" * 32, "MERCURE_URL"),
    ("http://me:hunter2@hub/", "s" * 32, "user"),
    ("http://hub/", "short", "MERCURE_JWT_SECRET"),
    ("http://hub/", "", "MERCURE_JWT_SECRET"),
])
def test_settings_that_cannot_work_are_named(make_driver, url, secret, said):
    driver = make_driver(url, secret=secret)
    wait_until(driver.answers, 15, "it says why")
    result, text = driver.answers()[0].split(" ", 1)
    assert int(result) == USAGE and said in text and "hunter2" not in text


# What stands at a wrong URL is no hub: any HTTP server of the standard library will do.

class _Stranger(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        self.rfile.read(int(self.headers["Content-Length"]))
        server.seen.append(dict(self.headers))
        body = server.body(self) if callable(server.body) else server.body
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def stranger():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stranger)
    server.seen, server.status, server.headers, server.body = [], 200, {}, b""
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_another_service_that_answers_200_is_not_taken_for_the_hub(make_driver, stranger):
    driver = make_driver(stranger.url, secret="s" * 32)
    for body in (b"", b"OK", b"urn:x:12", b"urn:x:", b"<html>" + b"x" * 200_000):
        stranger.body = body
        outcome, status, text = driver.send("urn:x:1")
        assert (outcome, status) == (FAILED, 200), body[:20]
        assert "something else" in text
    stranger.body = b"urn:x:1"
    assert driver.send("urn:x:1") == (PASSED, 200, "")


def test_a_redirect_is_not_followed_with_the_token(make_driver, stranger):
    stranger.status = 307
    stranger.headers = {"Location": stranger.url + "elsewhere"}
    outcome, status, _ = make_driver(stranger.url, secret="s" * 32).send()
    assert (outcome, status) == (FAILED, 307)
    assert len(stranger.seen) == 1


def test_a_401_mints_once_more_and_no_oftener(make_driver, stranger):
    stranger.status = 401
    driver = make_driver(stranger.url, secret="s" * 32)
    driver.send()
    first = [headers["Authorization"] for headers in stranger.seen]
    # A token of the same second is the same token: then asking again is of no use.
    assert len(first) <= 2 and len(set(first)) == len(first)
    wait_until(lambda: _asks_twice(driver, stranger), 15, "a second later there are two different tokens", every=0.3)


def _asks_twice(driver, stranger):
    stranger.seen.clear()
    driver.send()
    tokens = [headers["Authorization"] for headers in stranger.seen]
    return len(tokens) == 2 and tokens[0] != tokens[1]


def test_an_echo_of_the_request_is_not_shown(make_driver, stranger):
    stranger.status = 502
    stranger.body = lambda request: f"bad request: {request.headers['Authorization']}".encode()
    driver = make_driver(stranger.url, secret="s" * 32)
    outcome, status, text = driver.send()
    assert (outcome, status) == (FAILED, 502) and "Bearer" not in text and "eyJ" not in text
    stranger.body = b"<h1>Bad\n\n Gateway\x01</h1>"
    assert "<h1>Bad Gateway </h1>" in driver.send()[2]


def test_the_request_is_plain_http_1_1_without_expect(make_driver, stranger):
    make_driver(stranger.url, secret="s" * 32).send(data="x" * 2_000_000)
    headers = {name.lower(): value for name, value in stranger.seen[0].items()}
    assert "expect" not in headers and "upgrade" not in headers
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["authorization"].startswith("Bearer eyJ")
    assert headers["user-agent"].startswith("mqtt-bridge/")


def test_a_certificate_that_nobody_signed_is_not_accepted(make_driver, stranger, folder):
    alone = Authority(folder, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(alone.certificate, folder / "ca.key")
    stranger.socket = context.wrap_socket(stranger.socket, server_side=True)
    outcome, status, text = make_driver(stranger.url.replace("http:", "https:"), secret="s" * 32).send()
    assert (outcome, status) == (FAILED, 0) and "certificate" in text
    assert not stranger.seen
