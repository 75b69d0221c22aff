"""The environment of the seed platform: each of its variables does what it says, without any ini file.

The programs run as a user that is not root, as they do in a container. So their state and socket lie under
XDG_STATE_HOME and XDG_RUNTIME_DIR."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from bridge import Bridge, Process, build_folder, wait_until
from bridge.entries import add
from bridge.hub import REFUSED_TOPIC
from bridge.process import free_port, is_alive
from bridge.program import ROOT

PATIENCE = 60.0
PROGRAMS = ("supervisor", "consumer", "worker", "monitor")
USER = "daemon"  # where the tests run as root: any that is not


@pytest.fixture(scope="session")
def programs(workspace):
    """A copy of the programs that another user can read, with the page beside it."""
    folder = workspace / "installed" / "build"
    folder.mkdir(parents=True)
    for name in ("mqtt-bridge", *(f"mqtt-bridge-{program}" for program in PROGRAMS)):
        shutil.copy(build_folder() / name, folder / name)
    shutil.copytree(ROOT / "web", workspace / "installed" / "web")
    return folder


class Configured(Bridge):
    """A bridge that has no ini: env is all it gets."""

    def __init__(self, programs, folder, env):
        self.programs = programs
        self.home = Path(tempfile.mkdtemp(prefix="home-", dir=programs.parent))  # a socket's path is short
        if os.geteuid() == 0:
            shutil.chown(self.home, USER, USER)
        super().__init__(folder)
        self.env = {"HTTP_LISTEN": f"127.0.0.1:{self.http_port}", **env}
        self.state_dir = self.home / "state" / "mqtt-bridge"

    def write_config(self):
        assert not self.config.exists()

    def environment(self):
        env = {name: value for name, value in super().environment().items() if name != "MQTT_BRIDGE_CONFIG"}
        return {**env, "HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state"),
                "XDG_RUNTIME_DIR": str(self.home)}

    @property
    def marker(self):
        return f"XDG_RUNTIME_DIR={self.home}"

    def _process(self, program, arguments, name=None):
        user = USER if os.geteuid() == 0 else None
        process = Process(name or program, [self.programs / f"mqtt-bridge-{program}", *arguments],
                          self.home, self.environment(), user=user)
        self.processes.append(process)
        return process

    def cli(self, *arguments, check=True, timeout=30, env=None):
        command = [self.programs / "mqtt-bridge", *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", *command]
        result = subprocess.run(command, text=True, capture_output=True, timeout=timeout, cwd=self.home,
                                env={**self.environment(), **(env or {})})
        assert not check or result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
        return result

    def wait_log(self, text, program="supervisor"):
        process = next(process for process in reversed(self.processes) if process.name.startswith(program))
        found = wait_until(lambda: re.search(text, process.log()) or not process.is_running(), PATIENCE,
                           lambda: f"the log has {text!r}\n{process.log_tail()}")
        assert found is not True or re.search(text, process.log()), f"it ended ({process.exit_code})"


@pytest.fixture
def configured(makers, programs, mosquitto, redis, hub, database):
    """configured(NAME=value, ...): what a compose file sets, and these over it; None takes one away."""
    standard = {
        "MQTT_HOST": "127.0.0.1", "MQTT_PORT": mosquitto.port, "MESSENGER_TRANSPORT_DSN": redis.dsn(),
        "DATABASE_URL": database.dsn, "MERCURE_URL": hub.url, "MERCURE_JWT_SECRET": hub.publisher_key,
    }

    def make(**env):
        merged = {name: str(value) for name, value in {**standard, **env}.items() if value is not None}
        bridge = makers.keep(Configured(programs, makers.new_folder("configured"), merged))
        makers.watch(bridge.supervisor)
        return bridge
    return make


def entries(redis, stream="messages"):
    """Topic by topic, the QoS that each entry was received with."""
    found = {}
    for _, fields in redis.client.xrange(stream):
        envelope = json.loads(re.fullmatch(rb's:\d+:"(.*)";', fields[b"message"], re.DOTALL).group(1))
        topic = re.search(r'\\"topic\\";s:\d+:\\"(.*?)\\"', envelope["body"]).group(1)
        found[topic] = envelope["headers"]["X-Mqtt-Qos"]
    return found


def refusal(bridge):
    """What the supervisor says when it refuses the settings."""
    bridge.start(wait=False)
    assert bridge.supervisor.wait(PATIENCE) == 2, bridge.log()
    return bridge.log()


def test_the_environment_alone_makes_a_whole_bridge(configured, publisher, sse, database):
    bridge = configured(WORKER_COUNT=3, CONSUME_TRANSPORTS="async", MQTT_TOPICS="#", MQTT_QOS=1,
                        MQTT_CLIENT_ID="from-the-environment", APP_ENV="prod").start(timeout=PATIENCE)
    publisher.publish("sensors/room1/temp", '{"temp":21.5}')
    publisher.publish(REFUSED_TOPIC, "poison")
    assert sse.wait_topic("sensors/room1/temp", PATIENCE).payload == {"temp": 21.5}
    wait_until(lambda: len(database.failures()) == 1, PATIENCE, "the refused one is in the table")
    assert len(bridge.pids("worker")) == 3
    assert bridge.get("/readyz")[0] == 200
    assert (bridge.state_dir / "spool" / "from-the-environment").is_dir()
    assert bridge.stop() == 0


def test_the_environment_goes_over_the_ini(bridge, publisher, sse, mosquitto):
    bridge.settings["mqtt"]["port"] = free_port()
    bridge.settings["mqtt"]["topics"] = "nothing"
    bridge.env.update(MQTT_PORT=mosquitto.port, MQTT_TOPICS="some/#")
    bridge.start()
    publisher.publish("some/thing", "1")
    assert sse.wait_topic("some/thing").payload == 1


def test_an_empty_variable_is_as_none(configured, publisher, sse):
    bridge = configured(MQTT_USERNAME="", MQTT_PASSWORD="", MQTT_TOPICS="", CONSUMER_OPTIONS="", APP_ENV="")
    bridge.start(timeout=PATIENCE)
    publisher.publish("any/thing", "1")
    assert sse.wait_topic("any/thing", PATIENCE)


def test_mqtt_host_may_be_a_name(configured, publisher, sse, mosquitto):
    bridge = configured(MQTT_HOST="localhost").start(timeout=PATIENCE)
    publisher.publish("a/b", "1")
    sse.wait_topic("a/b", PATIENCE)
    assert f"broker localhost:{mosquitto.port}: connected" in bridge.log()


def test_variables_of_a_kubernetes_service_called_mqtt_are_ignored(configured):
    links = {"MQTT_PORT": "tcp://10.0.0.1:1883", "MQTT_SERVICE_HOST": "10.0.0.1", "MQTT_SERVICE_PORT": 1883,
             "MQTT_PORT_1883_TCP": "tcp://10.0.0.1:1883", "MQTT_PORT_1883_TCP_PORT": 1883}
    bridge = configured(**links)
    checked = bridge.cli("check")
    assert "MQTT_PORT" in checked.stderr and "enableServiceLinks" in checked.stderr
    bridge.run_program("consumer")
    bridge.wait_log("enableServiceLinks", "consumer")
    bridge.start(wait=False)
    bridge.wait_log("enableServiceLinks")


def test_mqtt_host_may_be_an_address_with_scheme_and_port(configured, publisher, redis, mosquitto):
    bridge = configured(MQTT_HOST=f"tcp://localhost:{mosquitto.port}/", MQTT_PORT=None)
    assert "broker tcp://localhost" in bridge.cli("check", "--connect").stdout
    bridge.run_program("consumer")
    bridge.wait_log("connected and subscribed", "consumer")
    publisher.publish("a/b", "1")
    wait_until(lambda: "a/b" in entries(redis), PATIENCE, "the message is in the stream")


def test_mqtt_host_that_is_not_there_is_named(configured):
    configured(MQTT_HOST="no-such-host.invalid").run_program("consumer")
    # Nothing listens at this one's port.
    port = free_port()
    bridge = configured(MQTT_PORT=port)
    bridge.run_program("consumer")
    bridge.wait_log(f"127.0.0.1:{port}: Connection refused", "consumer")


@pytest.mark.parametrize("by_file", [False, True], ids=["value", "file"])
def test_mqtt_username_and_password_are_sent(configured, make_mosquitto, make_publisher, redis, folder, by_file):
    broker = make_mosquitto(users={"bridge": "s3cret/ü", "device": "x"})
    password = {"MQTT_PASSWORD": "s3cret/ü"}
    if by_file:
        (folder / "password").write_text("s3cret/ü\n")
        password = {"MQTT_PASSWORD_FILE": folder / "password"}
    bridge = configured(MQTT_PORT=broker.port, MQTT_USERNAME="bridge", **password)
    bridge.run_program("consumer")
    bridge.wait_log("connected and subscribed", "consumer")
    make_publisher(broker.port, username="device", password="x").publish("a/b", "1")
    wait_until(lambda: redis.client.xlen("messages") == 1, PATIENCE, "the message is in the stream")


def test_a_wrong_mqtt_password_is_refused_and_never_shown(configured, make_mosquitto):
    broker = make_mosquitto(users={"bridge": "right"})
    bridge = configured(MQTT_PORT=broker.port, MQTT_USERNAME="bridge", MQTT_PASSWORD="hunter2")
    consumer = bridge.run_program("consumer")
    bridge.wait_log("not authorized", "consumer")
    assert "hunter2" not in consumer.log()


def test_mqtt_topics_are_all_that_is_subscribed_to(configured, publisher, redis):
    bridge = configured(MQTT_TOPICS="a/#, b/+@2 c@0", MQTT_QOS=1)
    bridge.run_program("consumer")
    bridge.wait_log("connected and subscribed", "consumer")
    for topic in ("a/x/y", "b/x", "b/x/y", "c", "d", "a/last"):
        publisher.publish(topic, "1", qos=2)
    wait_until(lambda: "a/last" in entries(redis), PATIENCE, "the last one is in the stream")
    assert entries(redis) == {"a/x/y": "1", "b/x": "2", "c": "0", "a/last": "1"}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_qos_is_the_qos_of_the_subscriptions(configured, publisher, redis, qos):
    bridge = configured(MQTT_QOS=qos)
    bridge.run_program("consumer")
    bridge.wait_log("connected and subscribed", "consumer")
    publisher.publish("a/b", "1", qos=2)
    wait_until(lambda: entries(redis) == {"a/b": str(qos)}, PATIENCE, lambda: str(entries(redis)))


def test_mqtt_client_id_names_session_and_spool(configured, mosquitto):
    bridge = configured(MQTT_CLIENT_ID="house-7")
    bridge.run_program("consumer")
    bridge.wait_log("connected and subscribed", "consumer")
    assert re.search(r"New client connected from \S+ as house-7 ", mosquitto.log())
    assert (bridge.state_dir / "spool" / "house-7").is_dir()


def test_mqtt_tls_is_honoured(configured, make_mosquitto, authority, redis):
    """The authority is one of the system's, as OpenSSL's own variable names them."""
    broker = make_mosquitto(options=authority.options())
    bridge = configured(MQTT_PORT=broker.port, MQTT_TLS="yes", SSL_CERT_FILE=authority.certificate)
    bridge.run_program("consumer")
    bridge.wait_log("connected and subscribed", "consumer")
    subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "--cafile", authority.certificate,
                    "-t", "a/b", "-m", "1", "-q", "1"], check=True)
    wait_until(lambda: entries(redis) == {"a/b": "1"}, PATIENCE, "the message is in the stream")


def test_mqtt_tls_reaches_a_browser_under_the_supervisor(configured, make_mosquitto, authority, sse):
    broker = make_mosquitto(options=authority.sign("server", "DNS:localhost").options())
    bridge = configured(MQTT_HOST="localhost", MQTT_PORT=broker.port, MQTT_TLS="1",
                        SSL_CERT_FILE=authority.certificate).start(timeout=PATIENCE)
    subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(broker.port), "--cafile", authority.certificate,
                    "-t", "a/b", "-m", "1", "-q", "1"], check=True)
    sse.wait_topic("a/b", PATIENCE)
    assert bridge.stop() == 0


@pytest.mark.parametrize("names, trusted, reason", [
    ("IP:127.0.0.1", False, "certificate verify failed"),
    ("IP:127.0.0.9,DNS:elsewhere", True, "a certificate for another name"),
], ids=["an unknown authority", "another host's certificate"])
def test_a_certificate_that_does_not_verify_is_refused_and_logged(configured, make_mosquitto, authority, names, trusted,
                                                                  reason):
    broker = make_mosquitto(options=authority.sign("server", names).options())
    trust = {"SSL_CERT_FILE": authority.certificate} if trusted else {}
    bridge = configured(MQTT_PORT=broker.port, MQTT_TLS="yes", **trust)
    consumer = bridge.run_program("consumer")
    bridge.wait_log(rf"127\.0\.0\.1:{broker.port}.*({reason})", "consumer")
    assert "connected and subscribed" not in consumer.log()
    assert "New client connected" not in broker.log()


def test_a_broker_without_tls_gets_nothing_in_the_clear(configured, mosquitto):
    bridge = configured(MQTT_TLS="yes", MQTT_USERNAME="bridge", MQTT_PASSWORD="hunter2")
    consumer = bridge.run_program("consumer")
    bridge.wait_log(rf"127\.0\.0\.1:{mosquitto.port}.*it has no TLS there", "consumer")
    assert "connected and subscribed" not in consumer.log()
    assert "New client connected" not in mosquitto.log()


def test_a_broker_that_wants_tls_is_distinguished_from_one_that_is_away(configured, make_mosquitto, authority):
    broker = make_mosquitto(options=authority.options())
    bridge = configured(MQTT_PORT=broker.port, MQTT_TLS="no")
    bridge.run_program("consumer")
    bridge.wait_log(rf"127\.0\.0\.1:{broker.port}.*does it want TLS", "consumer")


def test_mqtt_tls_moves_the_default_port(configured):
    shown = json.loads(configured(MQTT_PORT=None, MQTT_TLS="on").cli("config", "--json").stdout)["mqtt"]
    assert (shown["tls"]["value"], shown["port"]["value"]) == (True, 8883)
    shown = json.loads(configured(MQTT_PORT=None, MQTT_TLS="no").cli("config", "--json").stdout)["mqtt"]
    assert (shown["tls"]["value"], shown["port"]["value"]) == (False, 1883)


def test_messenger_transport_dsn_names_stream_group_and_consumer(configured, make_redis, publisher, sse):
    redis = make_redis(password="p@ss/word:1")
    bridge = configured(MESSENGER_TRANSPORT_DSN=redis.dsn("/stream/group/consumer", delete_after_ack=0), WORKER_COUNT=1)
    bridge.start(timeout=PATIENCE)
    publisher.publish("a/b", "1")
    sse.wait_topic("a/b", PATIENCE)
    group, = redis.client.xinfo_groups("stream")
    assert group["name"] == b"group"
    assert [consumer["name"] for consumer in redis.client.xinfo_consumers("stream", "group")] == [b"consumer-1"]
    assert redis.client.xlen("stream") == 1, "delete_after_ack is off"
    assert "p@ss" not in bridge.log() and "p%40ss" not in bridge.log()


def test_an_unknown_option_of_messenger_transport_dsn_is_named(configured, redis):
    said = refusal(configured(MESSENGER_TRANSPORT_DSN=redis.dsn(strem="x")))
    assert "strem" in said and "MESSENGER_TRANSPORT_DSN" in said


def test_a_secret_may_come_from_a_file(configured, redis, hub, folder, publisher, sse):
    (folder / "hub").write_text(hub.publisher_key + "\n")
    bridge = configured(MERCURE_JWT_SECRET=None, MERCURE_JWT_SECRET_FILE=folder / "hub").start(timeout=PATIENCE)
    publisher.publish("a/b", "1")
    sse.wait_topic("a/b", PATIENCE)
    assert hub.publisher_key not in bridge.cli("config").stdout


def test_a_secret_both_ways_or_from_no_file_is_refused(configured, hub, folder):
    (folder / "hub").write_text(hub.publisher_key)
    said = refusal(configured(MERCURE_JWT_SECRET_FILE=folder / "hub"))
    assert "MERCURE_JWT_SECRET_FILE" in said and "both" in said
    said = refusal(configured(MERCURE_JWT_SECRET=None, MERCURE_JWT_SECRET_FILE=folder / "nowhere"))
    assert "MERCURE_JWT_SECRET_FILE" in said and "nowhere" in said


def test_database_url_is_where_failures_go(configured, postgres, publisher):
    other = postgres.create_database()
    configured(DATABASE_URL=other.dsn).start(timeout=PATIENCE)
    publisher.publish(REFUSED_TOPIC, "poison")
    wait_until(lambda: len(other.failures()) == 1, PATIENCE, "the row")


def test_an_option_of_database_url_that_php_ignores_is_logged(configured, database, publisher):
    joined = database.dsn + ("&" if "?" in database.dsn else "?")
    bridge = configured(DATABASE_URL=f"{joined}serverVersion=16&schema=public&unix_socket=/x").start(timeout=PATIENCE)
    bridge.wait_log("DATABASE_URL: .failure. dsn: overlooked, as PHP does: the options `schema`, `unix_socket`")
    publisher.publish(REFUSED_TOPIC, "poison")
    wait_until(lambda: len(database.failures()) == 1, PATIENCE, "the row")


def test_database_url_of_another_database_is_refused(configured):
    assert "DATABASE_URL" in refusal(configured(DATABASE_URL="mysql://app:hunter2@database/app"))


def test_mercure_url_and_jwt_secret_reach_the_hub(configured, make_hub, publisher):
    hub = make_hub(publisher_key="another publisher's key of 32 bytes or more")
    sse = hub.subscribe("*")
    configured(MERCURE_URL=hub.url, MERCURE_JWT_SECRET=hub.publisher_key).start(timeout=PATIENCE)
    publisher.publish("a/b", "1")
    assert sse.wait_topic("a/b", PATIENCE).payload == 1
    sse.close()


def test_a_wrong_mercure_jwt_secret_is_reported_and_loses_nothing(configured, publisher, redis, database):
    bridge = configured(MERCURE_JWT_SECRET="a wrong key that is as long as one must be").start(wait=False).wait_running(PATIENCE)
    publisher.publish("a/b", "1")
    bridge.wait_log("401")
    wait_until(lambda: "HTTP 401" in bridge.get("/readyz")[1], PATIENCE, "the readiness says so")
    wait_until(lambda: redis.pending() == 1, PATIENCE, "the message is kept")
    assert database.failures() == []


def test_a_mercure_jwt_secret_that_is_too_short_is_refused(configured):
    assert "MERCURE_JWT_SECRET" in refusal(configured(MERCURE_JWT_SECRET="short"))


@pytest.mark.parametrize("count, workers", [("0", 0), ("1", 1), ("4", 4), ("auto", None)])
def test_worker_count_is_the_number_of_workers(configured, count, workers):
    bridge = configured(WORKER_COUNT=count).start(timeout=PATIENCE)
    cores = len(os.sched_getaffinity(0))
    assert len(bridge.pids("worker")) == (cores if workers is None else workers)


def test_consume_transports_are_what_workers_read(bridge, redis, sse):
    bridge.settings["transport:low"] = {"dsn": redis.dsn("/low")}
    bridge.settings["transport:other"] = {"dsn": redis.dsn("/other")}
    bridge.env["CONSUME_TRANSPORTS"] = "low, async"
    bridge.start()
    add(redis, "other/x", "1", stream="other")
    add(redis, "low/x", "1", stream="low")
    add(redis, "async/x", "1")
    sse.wait_topic("low/x")
    sse.wait_topic("async/x")
    assert redis.client.xlen("other") == 1


def test_consume_transports_that_do_not_exist_are_refused_by_name(configured):
    said = refusal(configured(CONSUME_TRANSPORTS="async asink"))
    assert "asink" in said and "CONSUME_TRANSPORTS" in said


def test_consumer_options_limit_ends_a_worker_which_is_replaced(configured, publisher, sse):
    bridge = configured(WORKER_COUNT=1, CONSUMER_OPTIONS="--limit=10 -vv").start(timeout=PATIENCE)
    first = bridge.pids("worker")
    publisher.publish_all([("a/b", str(number)) for number in range(35)])
    sse.wait_count(35, timeout=PATIENCE)
    wait_until(lambda: (found := bridge.pids("worker")) and found != first, PATIENCE, "another worker runs")

    def states():
        return {process["state"] for process in bridge.status()["processes"] if process["pid"]}
    wait_until(lambda: states() == {"running"}, PATIENCE, lambda: f"all run: {states()}")


def test_consumer_options_time_limit_ends_a_worker_which_is_replaced(configured):
    bridge = configured(WORKER_COUNT=1, CONSUMER_OPTIONS="--time-limit=1").start(timeout=PATIENCE)
    first = wait_until(lambda: bridge.pids("worker"), PATIENCE, "a worker runs")[0]
    wait_until(lambda: not is_alive(first) and bridge.pids("worker"), PATIENCE, "another worker runs")
    assert bridge.supervisor.is_running()


@pytest.mark.parametrize("option", ["--frobnicate", "--queues=x", "--limit=many"])
def test_options_unknown_to_messenger_are_refused_by_name(configured, option):
    said = refusal(configured(CONSUMER_OPTIONS=f"--time-limit=3600 {option}"))
    assert option.split("=")[0] in said and "CONSUMER_OPTIONS" in said


def test_app_env_prod_logs_json_on_standard_error(configured):
    bridge = configured(APP_ENV="prod").start(timeout=PATIENCE)
    bridge.stop()
    lines = bridge.log().splitlines()
    assert lines
    for line in lines:
        record = json.loads(line)
        assert record["channel"] == "mqtt" and set(record) == {"message", "context", "level", "level_name", "channel",
                                                               "datetime", "extra"}
    assert not (bridge.home / "var").exists()


def test_app_env_dev_logs_to_the_seeds_file(configured):
    bridge = configured(APP_ENV="dev")
    bridge.start(timeout=PATIENCE)
    bridge.stop()
    text = (bridge.home / "var/log/mqtt.log").read_text()
    assert "All processes run" in text and "connected and subscribed" in text
    assert "All processes run" not in bridge.log()


BAD = {"MQTT_PORT": "99999", "MQTT_QOS": "3", "MQTT_TLS": "maybe", "MQTT_TOPICS": "a/#/b", "WORKER_COUNT": "many",
       "CONSUME_TRANSPORTS": "nowhere", "CONSUMER_OPTIONS": "--frobnicate", "MESSENGER_TRANSPORT_DSN": "amqp://mq/x",
       "DATABASE_URL": "mysql://database/app", "HTTP_LISTEN": "9080:localhost", "LOG_LEVEL": "loud",
       "LOG_FORMAT": "xml"}


def test_bad_settings_are_refused_with_every_fault_named(configured):
    bridge = configured(**BAD)
    said = refusal(bridge)
    assert [name for name in BAD if name not in said] == []
    checked = bridge.cli("check", check=False)
    assert checked.returncode == 2
    assert [name for name in BAD if name not in checked.stdout + checked.stderr] == []


@pytest.mark.parametrize("name", BAD)
def test_each_bad_setting_alone_is_refused(configured, name):
    checked = configured(**{name: BAD[name]}).cli("check", check=False)
    assert checked.returncode == 2
    assert name in checked.stdout + checked.stderr


@pytest.mark.parametrize("section, key, value", [
    ("transport:async", "dsn", "amqp://mq/x"), ("failure", "dsn", "mysql://database/app"),
    ("mqtt", "topics", "a/#/b"), ("mercure", "jwt_secret", "short"), ("worker", "count", "many")])
def test_a_reload_of_bad_settings_changes_nothing(bridge, section, key, value):
    bridge.start()
    pids = bridge.left_over()
    bridge.settings[section][key] = value
    bridge.write_config()
    answer = bridge.cli("reload", check=False)
    assert answer.returncode in (1, 2) and key in answer.stdout + answer.stderr
    assert bridge.left_over() == pids
    assert bridge.get("/readyz")[0] == 200


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_starts_on_bad_settings(configured, program):
    process = configured(MQTT_PORT="0", WORKER_COUNT="-1").run_program(program)
    assert process.wait(PATIENCE) == 2
    assert "MQTT_PORT" in process.log() and "WORKER_COUNT" in process.log()
