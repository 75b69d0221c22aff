"""The monitor over HTTP: what it says of the servers, of the bridge and of itself."""

import re
import signal
import time
from urllib.parse import quote

import pytest
from bridge import free_port, wait_until
from bridge.authority import Authority
from bridge.monitor import request, start_monitor
from bridge.names import SlowNames, named, start_among
from bridge.process import port_is_open


@pytest.fixture
def monitor(bridge):
    return start_monitor(bridge)


def wait_rounds(redis, rounds):
    """Until the monitor has begun so many further rounds; each begins with Redis."""
    def begun():
        return redis.client.info("commandstats").get("cmdstat_xlen", {"calls": 0})["calls"]
    wanted = begun() + rounds
    wait_until(lambda: begun() >= wanted, 40, lambda: f"{rounds} rounds of probes: {begun()} of {wanted}")


def part(bridge, name):
    return request(bridge, "/readyz").json["parts"][name]


def wait_part(bridge, name, ok):
    return wait_until(lambda: (found := part(bridge, name))["ok"] == ok and found, 15,
                      lambda: f"{name} ok: {ok}, it is {part(bridge, name)}")


def test_the_monitor_is_healthy_and_readyz_says_what_is_missing(bridge, monitor):
    assert (request(bridge, "/healthz").status, request(bridge, "/healthz").text) == (200, "ok\n")
    ready = request(bridge, "/readyz")
    assert ready.status == 503 and ready.headers["Content-Type"] == "application/json"
    assert ready.json["ready"] is False
    assert ready.json["reasons"] == ["broker: no consumer is running", "worker: no worker is running"]
    assert all(ready.json["parts"][name]["ok"] for name in ("redis", "hub", "database"))


def test_redis_down_and_up_again_is_reported(bridge, monitor, redis):
    redis.kill()
    reason = wait_part(bridge, "redis", False)["reason"]
    assert f"127.0.0.1:{redis.port}" in reason and "refused" in reason.lower()
    status = request(bridge, "/status").json
    assert status["transport"]["ready"] is None and status["transport"]["oldest_ms"] is None
    redis.start()
    wait_part(bridge, "redis", True)
    assert "failed its probe" in monitor.log() and "passes its probe again" in monitor.log()


def test_a_frozen_redis_is_reported_while_answers_stay_quick(bridge, monitor, redis):
    def slowest():
        """Of the answers during a whole round of probes, of which Redis has 2 s."""
        seconds, until = [], time.monotonic() + 3.5
        while time.monotonic() < until:
            began = time.monotonic()
            assert request(bridge, "/healthz").status == 200
            seconds.append(time.monotonic() - began)
            time.sleep(0.05)
        return max(seconds)
    redis.freeze()
    wait_part(bridge, "redis", False)
    assert any(slowest() < 1 for _ in range(3))
    redis.thaw()
    wait_part(bridge, "redis", True)


def test_a_password_that_redis_refuses_is_reported_and_not_shown(make_bridge, make_redis):
    redis = make_redis(password="right")
    bridge = make_bridge(redis=redis)
    bridge.settings["transport:async"]["dsn"] = f"redis://:wrongsecret@127.0.0.1:{redis.port}/messages"
    monitor = start_monitor(bridge)
    reason = wait_part(bridge, "redis", False)["reason"]
    assert "WRONGPASS" in reason and "wrongsecret" not in reason + monitor.log()


def test_the_hub_down_and_up_again_is_reported(make_bridge, make_hub):
    hub = make_hub()
    bridge = make_bridge(hub=hub)
    start_monitor(bridge)
    assert part(bridge, "hub")["ok"]
    hub.kill()
    assert hub.url in wait_part(bridge, "hub", False)["reason"]
    hub.start()
    wait_part(bridge, "hub", True)


def test_probing_the_hub_publishes_nothing(bridge, sse, redis, hub):
    start_monitor(bridge)
    wait_rounds(redis, 3)  # the hub comes last in a round: two were asked to their end
    assert part(bridge, "hub")["ok"]
    assert hub.publish("marker", "here")[0] == 200
    assert [event.data for event in sse.wait_count(1)] == ["here"]


def test_a_hub_that_refuses_the_token_is_reported(make_bridge, hub):
    bridge = make_bridge(hub=hub, settings={"mercure": {"jwt_secret": "another-key-of-sufficient-length-0123"}})
    start_monitor(bridge)
    assert "MERCURE_JWT_SECRET" in wait_part(bridge, "hub", False)["reason"]


def test_readyz_names_mercure_url_when_no_hub_answers_there(make_bridge, hub):
    bridge = make_bridge(hub=hub, settings={"mercure": {"url": f"http://127.0.0.1:{hub.port}/elsewhere"}})
    start_monitor(bridge)
    assert "MERCURE_URL" in wait_part(bridge, "hub", False)["reason"]


def test_an_absent_database_is_reported_and_the_bridge_stays_ready(bridge, monitor, postgres):
    assert part(bridge, "database") == {"ok": True, "required": False}
    postgres.stop()
    found = wait_part(bridge, "database", False)
    assert found["required"] is False and postgres.PASSWORD not in found["reason"]
    postgres.start()
    wait_part(bridge, "database", True)


def test_a_frozen_database_is_reported_with_its_address(make_bridge, make_postgres):
    postgres = make_postgres()
    bridge = make_bridge(database=postgres.create_database())
    start_monitor(bridge)
    assert part(bridge, "database")["ok"]
    postgres.freeze()
    reason = wait_part(bridge, "database", False)["reason"]
    assert f"127.0.0.1:{postgres.port}/" in reason and quote(postgres.PASSWORD, safe="") not in reason
    postgres.thaw()
    wait_part(bridge, "database", True)


def test_a_slow_look_up_of_the_databases_name_is_no_failure(bridge, makers, database):
    names = makers.keep(SlowNames(makers.new_folder("names")))
    bridge.settings["failure"]["dsn"] = named(database.dsn, "database.test")
    monitor = start_among(names, bridge, "monitor")
    wait_until(lambda: port_is_open(bridge.http_port), 10, lambda: f"the monitor listens\n{monitor.log_tail()}")
    wait_until(lambda: "no answer within" in part(bridge, "database").get("reason", ""), 10,
               lambda: f"the first probe gives up: {part(bridge, 'database')}")
    wait_part(bridge, "database", True)


def test_probing_a_database_without_the_table_leaves_no_error_in_its_log(make_bridge, make_postgres):
    postgres = make_postgres()
    bridge = make_bridge(database=postgres.create_database())
    start_monitor(bridge)
    assert part(bridge, "database")["ok"] and request(bridge, "/status").json["failure"]["messages"] == 0
    assert "ERROR" not in postgres.log()


def test_status_counts_what_waits_in_redis(bridge, monitor, redis):
    client = redis.client
    client.xgroup_create("messages", "symfony", id="0", mkstream=True)
    for number in range(5):
        client.xadd("messages", {"message": f"{number}"})
    client.xreadgroup("symfony", "reader", {"messages": ">"}, count=2)
    client.zadd("messages__queue", {"later": time.time() * 1000 + 60000})
    wanted = {"ready": 3, "pending": 2, "delayed": 1}
    wait_until(lambda: wanted.items() <= request(bridge, "/status").json["transport"].items(), 10,
               lambda: f"{wanted}: {request(bridge, '/status').json['transport']}")
    transport = request(bridge, "/status").json["transport"]
    assert transport["name"] == "async" and 0 <= transport["oldest_ms"] < 60000
    client.xtrim("messages", maxlen=0)
    wait_until(lambda: request(bridge, "/status").json["transport"]["oldest_ms"] == 0, 10, "an empty stream")


def test_status_of_an_absent_stream_is_zeros(bridge, monitor):
    assert request(bridge, "/status").json["transport"] == {
        "name": "async", "ready": 0, "pending": 0, "delayed": 0, "oldest_ms": 0, "other_groups": 0}


def test_status_lists_the_processes(bridge, monitor):
    status = request(bridge, "/status").json
    process = status["processes"][0]
    assert (process["name"], process["slot"], process["running"]) == ("monitor", 1, True)
    assert process["beat_age_ms"] < 10000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", status["time"])
    assert status["totals"]["received_qos1"] == 0


def test_metrics_are_prometheus_text(bridge, monitor):
    answer = request(bridge, "/metrics")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    types = {}
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in types, f"{name} twice"
            types[name] = kind
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.+eInf]+', line)
            assert match, line
            assert any(match[1].startswith(name) for name in types), line
    assert 'mqtt_bridge_server_up{server="redis"} 1' in answer.text
    assert 'mqtt_bridge_process_up{name="monitor",slot="1"} 1' in answer.text


def test_the_metrics_have_the_time_when_a_certificate_expires(bridge, makers):
    mqtt, redis, own = (Authority(makers.new_folder("authority"), days=days) for days in (10, 20, 30))
    bridge.settings["mqtt"]["ca_file"] = mqtt.certificate
    bridge.settings["transport:async"]["dsn"] = (
        f"rediss://127.0.0.1:1/messages?ssl[cafile]={redis.certificate}"
        f"&ssl[local_cert]={own.certificate}&ssl[local_pk]={own.folder / 'ca.key'}")
    monitor = bridge.run_program("monitor")
    wait_until(lambda: port_is_open(bridge.http_port), 10, monitor.log_tail)
    found = re.findall(r'certificate_expiry_timestamp_seconds{name="(.*)"} (\d+)', request(bridge, "/metrics").text)
    assert [name for name, _ in found] == ["mqtt ca_file", "transport:async ssl[cafile]",
                                           "transport:async ssl[local_cert]"]
    for days, (_, end) in zip((10, 20, 30), found):
        assert abs(int(end) - time.time() - days * 86400) < 86400


def test_the_metrics_have_start_restarts_and_memory_of_each_process(bridge):
    bridge.start()
    text = request(bridge, "/metrics").text
    for name in ("consumer", "worker", "monitor", "supervisor"):
        values = {metric: re.search(rf'^mqtt_bridge_process_{metric}{{name="{name}",slot="1"}} ([0-9.]+)$', text, re.M)
                  for metric in ("restarts_total", "crashes_total", "start_time_seconds", "memory_bytes")}
        assert all(values.values()), (name, values)
        assert float(values["restarts_total"][1]) == float(values["crashes_total"][1]) == 0
        assert abs(float(values["start_time_seconds"][1]) - time.time()) < 120
        assert float(values["memory_bytes"][1]) > 100_000


@pytest.mark.parametrize("path, content_type, part", [
    ("/", "text/html; charset=utf-8", "<title>mqtt-bridge</title>"),
    ("/index.html", "text/html; charset=utf-8", "<title>mqtt-bridge</title>"),
    ("/app.js", "text/javascript; charset=utf-8", "import"),
    ("/style.css", "text/css; charset=utf-8", ":root"),
    ("/icon.svg", "image/svg+xml", "<svg"),
    ("/lib/dygraph.min.js", "text/javascript; charset=utf-8", "Dygraph"),
])
def test_the_page_comes_with_its_files(bridge, monitor, path, content_type, part):
    answer = request(bridge, path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    assert part in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_page_gets_the_public_address_of_the_hub(make_bridge, hub):
    bridge = make_bridge(hub=hub)
    start_monitor(bridge)
    assert request(bridge, "/config.json").json["hub"] == hub.url
    other = make_bridge(hub=hub, settings={"mercure": {"public_url": "https://hub.example/.well-known/mercure"}})
    start_monitor(other)
    config = request(other, "/config.json").json
    assert config["hub"] == "https://hub.example/.well-known/mercure"
    assert config["topics"] == ["*"] and config["data"] == "message"
    assert (config["types"], config["private"], config["private_routes"]) == ([], False, False)


def test_the_page_is_told_the_types_and_the_privacy_of_routes(make_bridge, hub):
    bridge = make_bridge(hub=hub, settings={
        "route:a": {"match": "a", "type": "temp"}, "route:b": {"match": "b", "type": "mode", "private": "yes"},
        "route:c": {"match": "c", "type": "temp"}, "route:d": {"match": "d", "type": "none", "drop": "yes"},
        "route:e": {"match": "e"}})
    start_monitor(bridge)
    config = request(bridge, "/config.json").json
    assert (config["types"], config["private"], config["private_routes"]) == (["mode", "temp"], False, True)


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_token_file_without_a_token_is_refused(bridge, folder, text):
    token_file = folder / "token"
    if text is not None:
        token_file.write_text(text)
    bridge.settings["http"]["token_file"] = token_file
    monitor = bridge.run_program("monitor")
    assert monitor.wait() == 2
    assert "token_file" in monitor.log() and str(token_file) in monitor.log()


def test_without_a_listen_address_the_monitor_only_probes(bridge, redis):
    bridge.settings["http"]["listen"] = ""
    monitor = bridge.run_program("monitor")
    wait_until(lambda: redis.client.info("commandstats").get("cmdstat_xlen"), 10, "Redis is asked")
    assert not port_is_open(bridge.http_port)
    assert monitor.stop() == 0


def test_an_ipv6_address_is_listened_on(bridge):
    bridge.settings["http"]["listen"] = f"[::1]:{bridge.http_port}"
    monitor = bridge.run_program("monitor")
    wait_until(lambda: "Listening" in monitor.log() or not monitor.is_running(), 10, monitor.log_tail)
    assert request(bridge, "/healthz", host="::1").status == 200


def test_a_port_in_use_ends_it_with_a_reason(bridge, monitor, make_bridge):
    other = make_bridge()
    other.settings["http"]["listen"] = f"127.0.0.1:{bridge.http_port}"
    second = other.run_program("monitor")
    assert second.wait() == 1
    assert f"127.0.0.1:{bridge.http_port}: Address already in use" in second.log()


@pytest.mark.parametrize("listen", ["localhost", "::1:9080", "127.0.0.1:99999"])
def test_a_wrong_address_is_refused(bridge, listen):
    bridge.settings["http"]["listen"] = listen
    monitor = bridge.run_program("monitor")
    assert monitor.wait() == 2
    assert "[http] listen" in monitor.log()


def test_the_monitor_ends_on_sigterm_though_redis_hangs(bridge, monitor, redis):
    redis.freeze()
    began = time.monotonic()
    assert monitor.stop(with_signal=signal.SIGTERM) == 0
    assert time.monotonic() - began < 5
    redis.thaw()


def test_readyz_lists_each_server_that_is_away(make_bridge):
    gone = free_port()
    bridge = make_bridge(settings={
        "transport:async": {"dsn": f"redis://127.0.0.1:{gone}/messages"},
        "mercure": {"url": f"http://127.0.0.1:{gone}/.well-known/mercure", "jwt_secret": "x" * 32},
        "failure": {"dsn": f"postgresql://u:p@127.0.0.1:{gone}/d"},
    })
    start_monitor(bridge)
    parts = request(bridge, "/readyz").json["parts"]
    assert {name for name, one in parts.items() if not one["ok"]} == {"broker", "worker", "redis", "hub", "database"}


# The whole bridge.

def test_a_whole_bridge_is_ready_and_counts(bridge, publisher, sse):
    bridge.start()
    wait_until(lambda: request(bridge, "/readyz").status == 200, 15, lambda: request(bridge, "/readyz").text)
    publisher.publish_all([(f"room/{number}", f"{number}") for number in range(20)])
    sse.wait_count(20)
    wait_until(lambda: request(bridge, "/status").json["totals"]["done"] == 20, 10,
               lambda: f"20 done: {request(bridge, '/status').json['totals']}")

    def counts():
        totals = request(bridge, "/status").json["totals"]
        return totals["received_qos1"], totals["dispatched"], totals["hub_ok"]
    wait_until(lambda: counts() == (20, 20, 20), 10, lambda: f"all are counted: {counts()}")
    names = sorted((one["name"], one["slot"]) for one in request(bridge, "/status").json["processes"]
                   if one["name"] != "supervisor")
    assert names == [("consumer", 1), ("monitor", 1), ("worker", 1), ("worker", 2)]


def test_a_broker_that_is_away_makes_the_bridge_unready(bridge, mosquitto):
    bridge.start()
    wait_until(lambda: request(bridge, "/readyz").status == 200, 15, lambda: request(bridge, "/readyz").text)
    mosquitto.kill()
    assert "consumer" in wait_part(bridge, "broker", False)["reason"]
    assert request(bridge, "/readyz").status == 503
    mosquitto.start()
    wait_until(lambda: request(bridge, "/readyz").status == 200, 15, lambda: request(bridge, "/readyz").text)


def assert_health_says_the_same(bridge):
    """health and status are the supervisor's answer, /readyz is the monitor's."""
    def answers():
        over_http, health, status = request(bridge, "/readyz"), bridge.cli("health", check=False), bridge.status()
        assert (over_http.status, health.returncode) in ((200, 0), (503, 1))
        said = [line.partition("not ready: ")[2] for line in health.stderr.splitlines()]
        found = (over_http.json["reasons"], said if said else over_http.json["reasons"], status["reasons"])
        return found if found[0] == found[1] == found[2] and status["ready"] == over_http.json["ready"] else None
    return wait_until(answers, 15, lambda: f"{bridge.status()['reasons']} is {request(bridge, '/readyz').text}")[0]


def test_health_and_readyz_agree_on_an_absent_hub_before_any_publish(make_bridge, make_hub, mosquitto,
                                                                                          redis, database):
    hub = make_hub()
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=hub, database=database)
    hub.stop()
    bridge.start(wait=False).wait_running()
    wait_part(bridge, "hub", False)
    wait_until(lambda: len(request(bridge, "/readyz").json["reasons"]) == 1, 15, lambda: request(bridge, "/readyz").text)
    assert bridge.cli("health", check=False).returncode == 1
    reasons = assert_health_says_the_same(bridge)
    assert len(reasons) == 1 and reasons[0].startswith("hub: ") and hub.url in reasons[0]
    hub.start()
    bridge.wait_ready()
    assert assert_health_says_the_same(bridge) == []


def test_health_and_readyz_agree_on_other_troubles(make_bridge, make_postgres, mosquitto, redis, hub):
    postgres = make_postgres()
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=hub, database=postgres.create_database())
    bridge.start()
    postgres.kill()
    wait_part(bridge, "database", False)
    assert [reason.partition(":")[0] for reason in assert_health_says_the_same(bridge)] == ["database"]
    assert bridge.cli("health").returncode == 0
    assert "ready without: database: " in bridge.cli("status").stdout
    bridge.cli("stop", "worker")
    assert any(reason.startswith("worker: no worker is running; worker:") and reason.endswith(": stopped: exit code 0")
               for reason in assert_health_says_the_same(bridge))
    bridge.cli("stop", "consumer")
    assert "broker: consumer: stopped: exit code 0" in assert_health_says_the_same(bridge)


def test_a_killed_monitor_comes_back_and_totals_stay(bridge, publisher, sse):
    bridge.start()
    publisher.publish("room/1", "1")
    sse.wait_count(1)
    bridge.kill_child("monitor")

    def total():
        try:
            return request(bridge, "/status").json["totals"]["received_qos1"]
        except OSError:
            return None
    wait_until(lambda: total() == 1, 15, "the monitor answers again with the same totals")


def test_hanging_servers_do_not_make_the_monitor_count_as_hung(
        make_bridge, make_postgres, mosquitto, redis, hub):
    postgres = make_postgres()
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=hub, database=postgres.create_database(),
                         settings={"supervisor": {"hang_timeout": "1800ms"}})  # a probe has 2 s
    bridge.start()
    pids = bridge.pids("monitor")
    postgres.freeze()
    wait_rounds(redis, 3)
    assert bridge.pids("monitor") == pids, bridge.supervisor.log_tail()
    assert part(bridge, "database")["ok"] is False
    postgres.thaw()


def test_consumers_alone_are_ready_without_workers_and_hub(make_bridge, mosquitto, redis, database):
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, database=database, settings={"worker": {"count": 0}})
    bridge.start()
    wait_until(lambda: request(bridge, "/readyz").status == 200, 15, lambda: request(bridge, "/readyz").text)
    wait_rounds(redis, 2)
    assert request(bridge, "/readyz").status == 200
    assert part(bridge, "worker")["configured"] is False
    assert part(bridge, "hub") == {"ok": True, "configured": False, "required": False}
    assert request(bridge, "/config.json").json["hub"] is None
    assert "The hub" not in bridge.log(), bridge.supervisor.log_tail()


def test_the_hub_is_not_needed_while_scaled_to_no_worker(make_bridge, make_hub, mosquitto, redis, database):
    hub = make_hub()
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=hub, database=database)
    bridge.start()
    wait_until(lambda: request(bridge, "/readyz").status == 200, 15, lambda: request(bridge, "/readyz").text)

    def is_ready():
        over_http, health = request(bridge, "/readyz").status == 200, bridge.cli("health", check=False).returncode == 0
        return over_http if over_http == health else None
    bridge.cli("scale", 0)
    hub.kill()
    assert wait_part(bridge, "hub", False)["required"] is False
    wait_until(lambda: is_ready() is True, 15, lambda: f"both ready: {request(bridge, '/readyz').text}")
    bridge.cli("scale", 1)
    wait_until(lambda: request(bridge, "/readyz").status == 503, 15, "the hub is needed again")
    hub.start()
    wait_until(lambda: is_ready() is True, 15, lambda: f"both ready: {request(bridge, '/readyz').text}")
