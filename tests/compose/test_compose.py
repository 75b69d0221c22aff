"""The image and the stack, as a user brings them up. The tests share one stack and leave it healthy."""

import http.client
import json
import re
import subprocess
import time

import pytest
from bridge import account, wait_until
from stack import COMPOSE, ROOT, run

pytestmark = pytest.mark.timeout(1200)  # the first builds the image

SERVICES = {"database", "redis", "mqtt", "mqtt-bridge", "mercure"}
VOLUMES = {"database_data", "redis_data", "mosquitto_data", "mercure_data", "bridge_state"}


def messages(topic, count):
    return [(f"{topic}/{number % 20}", f"value {number}") for number in range(count)]


def wait_all(sse, sent, timeout=120):
    """Until every message has been seen, repeats under the same id."""
    wait_until(lambda: len(sse) >= len(sent) and not account(sent, sse.events).missing, timeout,
               lambda: f"every message: {len(account(sent, sse.events).missing)} of {len(sent)} are missing",
               every=0.5)
    result = account(sent, sse.events)
    result.assert_nothing_lost()
    result.assert_repeats_recognisable()


@pytest.fixture
def subscribe(stack):
    made = []

    def connect(topic, last_event_id=None):
        made.append(stack.subscribe(topic, last_event_id))
        return made[-1]
    yield connect
    for sse in made:
        sse.close()


# The files.

def test_every_variable_of_the_settings_is_passed_through():
    reference = (ROOT / "docs/SETTINGS.md").read_text()
    documented = set(re.findall(r"^\| `[a-z_]+` \| `([A-Z_]+)`", reference, re.M))
    documented |= set(re.findall(r"^\| `([A-Z_]+)` \|", reference, re.M))
    assert {"MQTT_HOST", "DATABASE_URL", "NO_COLOR"} <= documented
    service = (ROOT / "compose.yaml").read_text().split("\n  mqtt-bridge:\n")[1].split("\nvolumes:\n")[0]
    passed = dict(re.findall(r"^      ([A-Z_]+): (.+)$", service, re.M))
    assert set(passed) == documented
    for name, value in passed.items():
        assert value == "*jwt_secret" or value.startswith("${" + name + ":-"), f"{name}: {value}"


def test_the_users_settings_reach_the_bridge_and_the_hub(whole_stack):
    config = whole_stack.compose("config", env={
        "MQTT_TOPICS": "a/#", "MERCURE_JWT_SECRET": "a-secret-of-the-users-own-0123456789",
        "POSTGRES_PASSWORD": "tiger", "PUBLISH_HTTP_ADDRESS": "0.0.0.0"})
    assert "MQTT_TOPICS: a/#" in config
    assert config.count("a-secret-of-the-users-own-0123456789") == 2, "the bridge and the hub's key of publishers"
    assert "postgresql://app:tiger@database:5432/app" in config
    assert config.count("host_ip: 0.0.0.0") == 1, "the page is open, broker and hub are not"


def test_make_env_writes_secrets_of_its_own_and_never_over_a_file(tmp_path):
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        run(ROOT / "tools/make-env", file)
        assert file.stat().st_mode & 0o777 == 0o600
    one, two = (dict(re.findall(r"^([A-Z_]+)=(\S+)$", file.read_text(), re.M)) for file in files)
    assert set(one) == set(two) == {"POSTGRES_PASSWORD", "MERCURE_JWT_SECRET", "MERCURE_SUBSCRIBER_JWT_SECRET"}
    assert len({*one.values(), *two.values()}) == 6, "each secret is drawn anew"
    assert all(len(value) >= 32 for value in one.values())
    before = files[0].read_text()
    done = subprocess.run([ROOT / "tools/make-env", files[0]], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "is there already" in done.stderr
    assert files[0].read_text() == before


def test_without_secrets_compose_says_what_to_run(whole_stack):
    for name in ("POSTGRES_PASSWORD", "MERCURE_JWT_SECRET"):
        other = {"POSTGRES_PASSWORD": "x" * 32, "MERCURE_JWT_SECRET": "y" * 32} | {name: ""}
        done = subprocess.run([*COMPOSE, "--project-directory", ROOT, "--file", ROOT / "compose.yaml", "--env-file",
                               "/dev/null", "config"], env=whole_stack.environment | other, capture_output=True,
                              text=True, timeout=60)
        assert done.returncode != 0 and "run tools/make-env" in done.stderr, done.stderr


def test_images_are_pinned_to_a_minor_version_and_logs_are_rotated(whole_stack):
    services = json.loads(whole_stack.compose("config", "--format", "json"))["services"]
    assert set(services) == SERVICES
    for name, service in services.items():
        assert name == "mqtt-bridge" or re.search(r":v?\d+\.\d+$", service["image"]), name
        assert service["logging"]["options"].keys() >= {"max-size", "max-file"}, name
    configuration = (ROOT / "etc/mosquitto/mosquitto.conf").read_text()
    assert "log_dest file" not in configuration, "nothing rotates it"


def test_mosquitto_lets_the_bridge_have_its_receive_maximum():
    reference = (ROOT / "docs/SETTINGS.md").read_text()
    receive_maximum = int(re.search(r"^\| `receive_maximum` .*?\| `(\d+)` \|", reference, re.M).group(1))
    configuration = (ROOT / "etc/mosquitto/mosquitto.conf").read_text()
    assert int(re.search(r"^max_inflight_messages (\d+)", configuration, re.M).group(1)) >= receive_maximum


# The stack.

def test_five_services_are_healthy_and_reached_from_this_host_only(stack):
    services = set(stack.compose("ps", "--services").split())
    assert services == SERVICES
    for service in services:
        container = stack.inspect(service)
        assert container["State"]["Health"]["Status"] == "healthy", service
        for published in container["HostConfig"]["PortBindings"].values():
            assert [binding["HostIp"] for binding in published] == ["127.0.0.1"], service
    assert stack.volumes() == VOLUMES
    unnamed = [mount for service in services for mount in stack.inspect(service)["Mounts"]
               if mount["Type"] == "volume" and not mount["Name"].startswith(stack.project)]
    assert unnamed == [], "a volume without a name is lost when its container is made anew"


def test_a_message_published_in_a_container_reaches_a_subscriber(stack, subscribe):
    sse = subscribe("first/{+rest}")
    stack.exec("mqtt", "mosquitto_pub", "-q", "1", "-t", "first/room", "-m", '{"temp":21.5}')
    event = sse.wait_topic("first/room", timeout=30)
    assert event.payload == {"temp": 21.5}
    assert event.id == f"urn:mqtt-bridge:{event.document['id']}"


def test_the_page_shows_a_value_from_the_hubs_public_url(stack, publisher, browser):
    from page import Page
    page = Page(browser, None, None)
    browser.get(f"http://localhost:{stack.http_port}/")
    page.wait_text("#hub-state", "live", 30)
    publisher.publish("page/room", "21.5")
    page.wait_value("page/room", "21.5", 30)
    assert page.errors() == []


def test_a_strangers_page_may_not_read_the_hub(stack):
    def allowed(origin):
        connection = http.client.HTTPConnection("127.0.0.1", stack.hub_port, timeout=10)
        connection.request("GET", "/.well-known/mercure?topic=x", headers={"Origin": origin})
        answer = connection.getresponse()
        connection.close()
        return answer.getheader("Access-Control-Allow-Origin")
    assert allowed(f"http://localhost:{stack.http_port}") == f"http://localhost:{stack.http_port}"
    assert allowed(f"http://127.0.0.1:{stack.http_port}") == f"http://127.0.0.1:{stack.http_port}"
    assert allowed("http://example.org") is None


def test_a_refused_message_is_a_row_in_the_database(stack, publisher):
    publisher.publish("poison/.well-known/mercure", "x")
    wait_until(lambda: stack.sql("SELECT count(*) FROM messenger_messages WHERE body LIKE '%poison%'") == "1",
               30, "the row", every=0.5)


# The image.

def test_nothing_in_the_container_is_root_or_may_become_it(stack):
    listing = run("docker", "top", stack.container("mqtt-bridge"), "-eo", "uid,pid,args").splitlines()[1:]
    assert len(listing) >= 5, listing
    assert {line.split()[0] for line in listing} == {"9080"}, listing
    status = dict(line.split(":\t", 1) for line in
                  stack.exec("mqtt-bridge", "cat", "/proc/1/status").splitlines() if ":\t" in line)
    assert status["Name"].startswith("mqtt-bridge-sup")
    assert int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_the_image_runs_read_only_and_under_any_user_id(stack):
    assert stack.inspect("mqtt-bridge")["HostConfig"]["ReadonlyRootfs"]
    name = f"{stack.project}-any-user"
    run("docker", "run", "--detach", "--name", name, "--read-only", "--user", "123456", "--env", "WORKER_COUNT=0",
        stack.image())
    try:
        def status():
            done = subprocess.run(["docker", "exec", name, "mqtt-bridge", "status", "--json"], capture_output=True,
                                  text=True, timeout=20)
            return done.returncode == 0 and json.loads(done.stdout)
        shown = wait_until(status, 30, lambda: run("docker", "logs", name), every=0.5)
        assert {"consumer", "monitor"} <= {process["name"] for process in shown["processes"]}
        assert run("docker", "exec", name, "id", "-u").strip() == "123456"
    finally:
        run("docker", "rm", "--force", "--volumes", name)


def test_the_image_holds_nothing_that_builds(stack):
    found = stack.exec("mqtt-bridge", "sh", "-c", "command -v cc gcc make git curl; ls /src 2>/dev/null; true")
    assert found == ""
    assert "not found" not in stack.exec("mqtt-bridge", "sh", "-c", "ldd /usr/bin/mqtt-bridge*")


def test_pid_1_reaps_orphans(stack):
    pid = stack.exec("mqtt-bridge", "sh", "-c", "sleep 2 >/dev/null 2>&1 & echo $!").strip()
    assert stack.exec("mqtt-bridge", "sh", "-c", f"cat /proc/{pid}/stat").split()[3] == "1", "its parent"

    def states():
        lines = stack.exec("mqtt-bridge", "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; true").splitlines()
        return {line.split()[0]: line.rsplit(")", 1)[1].split()[0] for line in lines}
    wait_until(lambda: pid not in states(), 30, "the orphan is gone", every=0.2)
    wait_until(lambda: "Z" not in states().values(), 10, lambda: f"no zombie: {states()}", every=0.2)


def test_bad_settings_are_refused_with_their_names(stack):
    done = subprocess.run(["docker", "run", "--rm", "--env", "MQTT_QOS=7", "--env", "WORKER_COUNT=many",
                           stack.image()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "MQTT_QOS" in done.stderr and "WORKER_COUNT" in done.stderr


def test_an_ini_file_in_its_place_is_read(stack, tmp_path):
    # An empty MQTT_BRIDGE_CONFIG, as compose.yaml passes it, counts as not set.
    ini = tmp_path / "mqtt-bridge.ini"
    ini.write_text("[mqtt]\nqos = 9\n")
    done = subprocess.run(["docker", "create", "--env", "MQTT_BRIDGE_CONFIG=", stack.image()],
                          capture_output=True, text=True, check=True, timeout=60)
    container = done.stdout.strip()
    try:
        run("docker", "cp", ini, f"{container}:/etc/mqtt-bridge/mqtt-bridge.ini")
        done = subprocess.run(["docker", "start", "--attach", container], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "/etc/mqtt-bridge/mqtt-bridge.ini:2" in done.stderr
    finally:
        run("docker", "rm", "--force", "--volumes", container)


def test_a_second_container_on_the_same_volume_waits_and_does_not_start(stack):
    done = subprocess.run(["docker", "run", "--rm", "--volume", f"{stack.project}_bridge_state:/var/lib/mqtt-bridge",
                           "--env", "MERCURE_URL=http://127.0.0.1/.well-known/mercure",
                           "--env", "MERCURE_JWT_SECRET=a-secret-of-the-users-own-0123456789", stack.image()],
                          capture_output=True, text=True, timeout=150)
    assert done.returncode == 3, done.stderr
    assert "waiting up to 60 s" in done.stdout + done.stderr


# What may break.

@pytest.mark.parametrize("child", ["consumer", "worker", "monitor"])
def test_a_killed_child_is_started_again_and_nothing_is_lost(stack, publisher, subscribe, child):
    sse = subscribe(f"killed-{child}/{{n}}")
    sent = messages(f"killed-{child}", 2000)
    sending = publisher.start_all(sent, rate=500)
    sse.wait_count(200, timeout=60)
    stack.kill_child(child)
    sending.join()
    publisher.wait_confirmed()
    wait_all(sse, sent)
    assert stack.inspect("mqtt-bridge")["RestartCount"] == 0, "the container itself stayed up"


def test_the_container_is_recreated_under_load_and_nothing_is_lost(stack, publisher, subscribe):
    before = stack.container("mqtt-bridge")
    sse = subscribe("recreated/{n}")
    sent = messages("recreated", 6000)
    sending = publisher.start_all(sent, rate=300)
    sse.wait_count(300, timeout=60)
    stack.up("--force-recreate", "--no-deps", "mqtt-bridge")
    assert stack.container("mqtt-bridge") != before
    assert sending.is_alive(), "the load was over before the container was back"
    sending.join()
    publisher.wait_confirmed()
    wait_all(sse, sent)


def test_a_killed_container_loses_nothing(stack, publisher, subscribe):
    sse = subscribe("slain/{n}")
    sent = messages("slain", 3000)
    sending = publisher.start_all(sent, rate=300)
    sse.wait_count(300, timeout=60)
    run("docker", "kill", stack.container("mqtt-bridge"))
    stack.up()
    sending.join()
    publisher.wait_confirmed()
    wait_all(sse, sent)


def test_a_stop_is_in_good_order_and_within_its_time(stack, publisher, subscribe):
    sse = subscribe("stopped/{n}")
    sent = messages("stopped", 1000)
    publisher.publish_all(sent)
    started = time.monotonic()
    stack.compose("stop", "mqtt-bridge")
    took = time.monotonic() - started
    container = stack.inspect("mqtt-bridge")
    assert container["State"]["ExitCode"] == 0
    assert took < 25, f"{took:.0f} s"
    log = stack.compose("logs", "--no-color", "--tail", "5", "mqtt-bridge")
    assert '"message":"Stopped"' in log, log
    stack.up()
    wait_all(sse, sent)


def test_a_killed_broker_gives_back_what_waited_for_an_absent_bridge(stack, publisher, subscribe):
    # More than Mosquitto's defaults would keep: 1000 in the queue, and none of it after a kill.
    sse = subscribe("absent/{n}")
    sent = messages("absent", 5000)
    stack.compose("stop", "mqtt-bridge")
    publisher.publish_all(sent)
    confirmed = int(stack.exec("mqtt", "date", "+%s"))
    wait_until(lambda: int(stack.exec("mqtt", "stat", "-c", "%Y", "/mosquitto/data/mosquitto.db")) > confirmed + 1,
               30, "the broker saves", every=0.5)
    run("docker", "kill", stack.container("mqtt"))
    stack.up()
    wait_all(sse, sent)


def test_the_whole_stack_comes_back_with_its_volumes(stack, publisher, subscribe):
    sse = subscribe("volumes/{+rest}")
    publisher.publish("volumes/before", "1")
    before = sse.wait_topic("volumes/before", timeout=30)
    publisher.publish("volumes/.well-known/mercure", "x")
    publisher.publish("retained/x", "kept", retain=True)
    wait_until(lambda: stack.sql("SELECT count(*) FROM messenger_messages WHERE body LIKE '%volumes/%'") == "1",
               30, "the failed message's row", every=0.5)
    rows = stack.sql("SELECT id, body FROM messenger_messages ORDER BY id")
    instance = stack.exec("mqtt-bridge", "cat", "/var/lib/mqtt-bridge/instance")
    # These wait in the stream while everything is down.
    stack.compose("stop", "mercure")
    waiting = messages("volumes", 200)
    publisher.publish_all(waiting)
    wait_until(lambda: stack.queue_length() >= 200, 30, "the messages are in the stream", every=0.2)
    publisher.close()

    stack.compose("down", "--timeout", "30")
    assert stack.volumes() == VOLUMES
    stack.up()
    assert stack.volumes() == VOLUMES
    assert stack.sql("SELECT id, body FROM messenger_messages ORDER BY id") == rows
    assert stack.exec("mqtt-bridge", "cat", "/var/lib/mqtt-bridge/instance") == instance
    assert stack.exec("mqtt", "mosquitto_sub", "-t", "retained/x", "-C", "1", "-W", "10").strip() == "kept"
    # The hub's history has the event from before and goes on behind it.
    after = subscribe("volumes/{+rest}", last_event_id=before.id)
    wait_all(after, waiting)
    spool, sequence = before.document["id"].rsplit("-", 1)
    for event in after.events:
        assert event.document["id"].startswith(spool + "-"), "another spool"
        assert int(event.document["id"].rsplit("-", 1)[1]) > int(sequence)


# Debian 13.

def test_code_and_unit_tests_build_without_warnings_on_debian_13(stack):
    def compose(*words):
        return run(*COMPOSE, "--project-name", f"{stack.project}-unit", "--file",
                   ROOT / "tests/compose/unit-tests.yaml", *words, env=stack.environment, timeout=1100)
    try:
        compose("build")
        compose("run", "--rm", "-T", "unit-tests")
    finally:
        compose("down", "--volumes", "--remove-orphans", "--rmi", "local")
