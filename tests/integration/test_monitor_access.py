"""The monitor's port against those who must not get in, and those who would keep others out."""

import http.client
import socket
import time

import pytest
from bridge import free_port, wait_until
from bridge.monitor import request, start_monitor

TOKEN = "s3cret-token"
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def monitor(bridge):
    return start_monitor(bridge)


@pytest.fixture
def guarded(bridge, folder):
    """A monitor with a token, whose servers are all away: at the port `gone`."""
    token_file = folder / "token"
    token_file.write_text(f"{TOKEN}\n")
    gone = free_port()
    bridge.settings["http"]["token_file"] = token_file
    bridge.settings["transport:async"]["dsn"] = f"redis://127.0.0.1:{gone}/messages"
    bridge.settings["failure"]["dsn"] = f"postgresql://u:p@127.0.0.1:{gone}/d"
    bridge.settings["mercure"]["url"] = f"http://127.0.0.1:{gone}/.well-known/mercure"
    monitor = start_monitor(bridge, headers=WITH_TOKEN)
    monitor.gone = gone
    return monitor


class Slow:
    """A client that begins a request and goes on sending header lines."""

    def __init__(self, port, source="127.0.0.1"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        self.socket.sendall(b"GET /healthz HTTP/1.1\r\n")
        self.socket.setblocking(False)

    def sends_another_line(self):
        """False once the monitor has ended the connection."""
        try:
            if self.socket.recv(4096) == b"":
                return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        try:
            self.socket.sendall(b"X-Slow: 1\r\n")
        except OSError:
            return False
        return True


@pytest.fixture
def slow_clients(bridge):
    clients = []

    def connect(count, source="127.0.0.1"):
        clients.extend(Slow(bridge.http_port, source) for _ in range(count))
        return clients[-count:]
    yield connect
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize("addresses", [1, 6])
def test_slow_clients_keep_no_probe_from_its_answer(bridge, monitor, slow_clients, addresses):
    clients = [client for number in range(addresses) for client in slow_clients(300 // addresses, f"127.0.0.{number + 2}")]
    for _ in range(10):
        began = time.monotonic()
        assert request(bridge, "/healthz").status == 200
        assert time.monotonic() - began < 5
        for client in clients:
            client.sends_another_line()
    assert any(client.sends_another_line() for client in clients), "there was no pressure at all"


@pytest.mark.waits
def test_a_request_that_is_never_whole_is_ended(bridge, monitor, slow_clients):
    client, = slow_clients(1)
    began = time.monotonic()

    def ended():
        time.sleep(0.5)
        return not client.sends_another_line()
    wait_until(ended, 40, "the connection ends")
    assert time.monotonic() - began > 10, "a slow client has its time"


def test_a_kept_connection_answers_one_request_after_another(bridge, monitor):
    connection = http.client.HTTPConnection("127.0.0.1", bridge.http_port, timeout=10)
    connection.connect()
    first = connection.sock
    for path in ("/healthz", "/readyz", "/", "/nothing", "/healthz"):
        connection.request("GET", path)
        assert connection.getresponse().read() != b""
        assert connection.sock is first, f"the connection ends behind {path}"
    connection.close()


def raw(bridge, text):
    """All that the monitor answers to these bytes, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", bridge.http_port), timeout=10) as client:
        client.sendall(text)
        answer = b""
        while True:
            try:
                more = client.recv(65536)
            except ConnectionResetError:
                return answer
            if more == b"":
                return answer
            answer += more


@pytest.mark.parametrize("head, status", [
    (b"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n", b"405"),
    (b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n", b"405"),
    (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n", b"413"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n", b"413"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n", b"413"),
])
def test_a_request_with_a_body_is_refused_without_waiting_for_it(bridge, monitor, head, status):
    began = time.monotonic()
    answer = raw(bridge, head + b"\r\n")
    assert answer.split(b" ")[1] == status, answer
    assert time.monotonic() - began < 5


def test_http_methods_other_than_get_and_head_answer_405(bridge, monitor):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = request(bridge, "/status", method, {"Content-Length": "0"})
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    head = request(bridge, "/", "HEAD")
    assert head.status == 200 and head.text == "" and int(head.headers["Content-Length"]) > 100


def test_a_too_long_request_is_refused_and_the_next_is_answered(bridge, monitor):
    assert request(bridge, "/" + "a" * 40000).status in (400, 413, 414, 431)
    assert request(bridge, "/", headers={"X-Long": "a" * 40000}).status in (400, 413, 414, 431)
    assert request(bridge, "/healthz").status == 200


# Names.

def test_a_name_that_is_not_ours_is_refused_with_the_remedy(bridge, monitor):
    for path in ("/", "/status", "/readyz", "/metrics", "/config.json", "/app.js"):
        answer = request(bridge, path, headers={"Host": f"evil.example:{bridge.http_port}"})
        assert answer.status == 421, path
        assert "`evil.example`" in answer.text and "[http] hosts (HTTP_HOSTS)" in answer.text
    assert request(bridge, "/healthz", headers={"Host": "evil.example"}).status == 200


def test_addresses_and_the_names_of_hosts_are_answered(make_bridge):
    bridge = make_bridge(settings={"http": {"hosts": "bridge.example, mqtt-bridge"}})
    start_monitor(bridge)
    for host in ("localhost", "127.0.0.1:9080", "[::1]", "192.0.2.7", "bridge.example", "MQTT-Bridge:9080"):
        assert request(bridge, "/status", headers={"Host": host}).status == 200, host
    assert request(bridge, "/status", headers={"Host": "x.bridge.example"}).status == 421


def test_a_probe_of_http_1_0_needs_no_host(bridge, monitor):
    assert b"200 OK" in raw(bridge, b"GET /status HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize("hosts", ["http://bridge.example", "bridge.example:9080", "[::1]", "a/b"])
def test_http_hosts_refuses_entries_that_are_no_bare_host_name(bridge, hosts):
    bridge.settings["http"]["hosts"] = hosts
    result = bridge.cli("check", check=False)
    assert result.returncode == 2 and "[http] hosts" in result.stderr and "without a port" in result.stderr


# The token.

def test_a_token_guards_what_shows_addresses_and_numbers(bridge, guarded):
    for path in ("/status", "/metrics", "/config.json"):
        assert request(bridge, path).status == 401
        assert request(bridge, path).headers["WWW-Authenticate"] == "Bearer"
        for wrong in ("Bearer s3cret-toke", "Bearer s3cret-tokenn", "Bearer ", "Basic s3cret-token", "s3cret-token"):
            assert request(bridge, path, headers={"Authorization": wrong}).status == 401, wrong
        assert request(bridge, path, headers=WITH_TOKEN).status == 200
    assert request(bridge, "/healthz").status == 200
    assert request(bridge, "/").status == 200


def test_without_the_token_readyz_has_names_and_states_only(bridge, guarded):
    answer = request(bridge, "/readyz")
    assert answer.status == 503
    assert answer.json["ready"] is False
    assert answer.json["reasons"] == ["broker", "worker", "redis", "hub", "database"]
    assert answer.json["parts"]["redis"] == {"ok": False}
    assert answer.json["parts"]["database"] == {"ok": False, "required": False}
    assert str(guarded.gone) not in answer.text and "127.0.0.1" not in answer.text
    told = request(bridge, "/readyz", headers=WITH_TOKEN)
    assert f"127.0.0.1:{guarded.gone}" in told.json["parts"]["redis"]["reason"]


# Paths.

@pytest.mark.parametrize("path", [
    "/../etc/passwd", "/../../../../../../etc/passwd", "/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/lib/../../../../etc/passwd", "/lib/%2e%2e/%2e%2e/jquery/jquery.js",
    "/lib/..%2f..%2fjquery%2fjquery.js", "//etc/passwd", "/./index.html", "/%2e/index.html", "/index.html/",
    "/..%5c..%5cetc%5cpasswd", "/lib/", "/lib", "/.git/config", "/app.js%2f..%2fapp.js", "/%252e%252e/etc/passwd",
    "/app.js%00", "/%00", "/app.js%00.html", "/..%c0%afetc%c0%afpasswd", "/%2e%2e%2f" * 500, "/" + "a" * 8000,
    "/lib/dist/dygraph.min.js", "/%61pp.js", "/app.js%3fx", "/status/", "/status%00", "/%ff", "*",
])
def test_paths_out_of_the_page_are_refused(bridge, monitor, path):
    answer = request(bridge, path)
    assert answer.status == 404 and answer.text == "not found\n"


def test_links_in_the_pages_folder_lead_nowhere(bridge, folder):
    web = folder / "web"
    web.mkdir()
    (web / "index.html").write_text("<title>page</title>")
    (web / "plain.txt").write_text("plain")
    (web / "link.txt").symlink_to("/etc/hostname")
    (web / "inside.txt").symlink_to("plain.txt")
    (web / "up").symlink_to("..")
    start_monitor(bridge, env={"MQTT_BRIDGE_WEB": web})
    assert request(bridge, "/plain.txt").text == "plain"
    for path in ("/link.txt", "/inside.txt", "/up", "/up/web/plain.txt"):
        assert request(bridge, path).status == 404, path


# Anything.

def random_piece(rng):
    """A part of a request: often nearly right."""
    return rng.choice([
        lambda: bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40))),
        lambda: rng.choice([b"/", b"..", b"%2e", b"%00", b"?a=b", b"&", b"=", b" ", b"\t", b"\0", b"\r", b"\n", b"\r\n"]),
        lambda: rng.choice([b"status", b"readyz", b"metrics", b"config.json", b"app.js", b"lib/dygraph.min.js"]),
        lambda: b"a" * rng.choice([1, 100, 5000, 20000]),
        lambda: rng.choice([b"GET", b"HEAD", b"POST", b"\xff", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"Bearer "]),
    ])()


def random_request(rng):
    method = rng.choice([b"GET", b"GET", b"GET", b"HEAD", b"POST", b"BREW", random_piece(rng)])
    target = b"/" + b"".join(random_piece(rng) for _ in range(rng.randrange(4)))
    version = rng.choice([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", random_piece(rng)])
    headers = [rng.choice([
        b"Host: localhost", b"Host: [::1]:9080", b"Host: " + random_piece(rng), b"Authorization: Bearer " + random_piece(rng),
        b"Content-Length: " + rng.choice([b"0", b"5", b"-1", b"99999999999999999999", random_piece(rng)]),
        b"Transfer-Encoding: " + rng.choice([b"chunked", b"gzip", random_piece(rng)]),
        b"Expect: 100-continue", b"Connection: " + rng.choice([b"close", b"keep-alive", b"upgrade"]),
        b"Range: bytes=" + random_piece(rng), b"Cookie: " + random_piece(rng), random_piece(rng),
        b" folded " + random_piece(rng),
    ]) for _ in range(rng.randrange(6))]
    request = b"\r\n".join([b" ".join([method, target, version]), *headers]) + b"\r\n\r\n"
    if rng.random() < 0.2:  # cut, or with something behind it
        request = request[:rng.randrange(len(request))]
    if rng.random() < 0.2:
        request += random_piece(rng) * rng.randrange(1, 20)
    return request


def test_random_requests_leave_the_monitor_up_and_healthy(bridge, guarded, rng):
    for round_ in range(40):
        clients = []
        for _ in range(25):
            client = socket.create_connection(("127.0.0.1", bridge.http_port), timeout=5)
            clients.append(client)
            try:
                for _ in range(rng.randrange(1, 4)):
                    client.sendall(random_request(rng))
            except OSError:
                pass  # refused before it was all sent
        for client in clients:
            client.settimeout(0.01)
            try:
                answer = client.recv(65536)
                assert answer == b"" or answer.startswith(b"HTTP/1."), answer[:80]
                assert b"s3cret" not in answer and b"root:" not in answer
            except OSError:
                pass  # it waits for the rest
            client.close()
        assert guarded.is_running(), guarded.log_tail()
        health = request(bridge, "/healthz")
        assert (health.status, health.text) == (200, "ok\n"), f"round {round_}"
    assert request(bridge, "/status").status == 401
    assert request(bridge, "/status", headers=WITH_TOKEN).status == 200
