"""The consumer and its broker: versions, several servers, what is refused, and what is logged of it."""

import contextlib
import json
import os
import re
import subprocess
import time

import pytest
from bridge import build_folder, free_port, wait_until
from bridge.consumer import READY, VERSIONS
from bridge.mqtt import another_client
from bridge.names import LOOK_UP_S, Names
from bridge.relays import OldBroker, Relay

# What is said of a broker that ends a connection, and must not be said where there is none.
WANTS_TLS = "does it want TLS"


@pytest.mark.parametrize("answer", [bytes([0x20, 2, 0, 1]), bytes([0x20, 3, 0, 0x84, 0]), b""],
                         ids=["3.1.1's refusal", "5's refusal", "hangs up"])
def test_a_broker_that_refuses_mqtt_5_gets_3_1_1(make_consumer, mosquitto, publisher, answer):
    old = OldBroker(mosquitto.port, answer)
    try:
        consumer = make_consumer(port=old.port).start()
        assert old.refused >= 1 and '"version":"3.1.1"' in consumer.log()
        publisher.publish("a", "1")
        consumer.wait_entries(1)
        consumer.stop()
    finally:
        old.close()


def test_the_next_server_of_the_list_is_tried(make_consumer, publisher, mosquitto):
    consumer = make_consumer(server_uris=f"tcp://127.0.0.1:{free_port()}, tcp://127.0.0.1:{mosquitto.port}").start()
    publisher.publish("a", "1")
    assert consumer.wait_entries(1)[0].payload == b"1"
    assert "Connection refused" in consumer.log()


def test_a_wrong_password_is_logged_and_retried_with_backoff(make_consumer, make_mosquitto, make_publisher):
    broker = make_mosquitto(users={"bridge": "right", "device": "x"})
    consumer = make_consumer(broker, username="bridge", password="wrong").start(wait=False)
    consumer.wait_log("refused the connection: not authorized")
    connects = lambda: broker.log().count("New connection")
    before = connects()
    time.sleep(1.5)
    assert connects() - before <= 8, "reconnect_min is 100 ms and doubles"
    consumer.stop()
    consumer.set("mqtt", password="right").start()
    make_publisher(broker.port, username="device", password="x").publish("a", "1")
    consumer.wait_entries(1)


def test_a_broker_that_is_away_is_logged_and_waited_for(make_consumer, mosquitto, publisher):
    consumer = make_consumer(reconnect_max="300ms")
    mosquitto.stop()
    consumer.start(wait=False)
    consumer.wait_log(f"broker 127.0.0.1:{mosquitto.port}: Connection refused")
    mosquitto.start()
    consumer.wait_log(READY)
    publisher.publish("a", "1")
    consumer.wait_entries(1)


def test_an_unknown_host_is_reported(make_consumer):
    consumer = make_consumer(host="no-such-host.invalid").start(wait=False)
    consumer.wait_log("broker no-such-host.invalid:", timeout=30)
    assert re.search(r"not known|resolution|No address", consumer.log())


def test_a_proxy_of_the_environment_is_not_used_for_mqtt(bridge, publisher, redis):
    nobody = f"http://127.0.0.1:{free_port()}"
    process = bridge.run_program("consumer", env={"http_proxy": nobody, "https_proxy": nobody})
    wait_until(lambda: "connected and subscribed" in process.log(), 20, process.log_tail)
    publisher.publish("a/b", "1", qos=1)
    wait_until(lambda: redis.client.xlen("messages") == 1, 20, "the message is in the stream")


def test_another_client_with_our_id_is_logged_and_backed_off_from(make_consumer, mosquitto):
    consumer = make_consumer(reconnect_max="60s").start()
    with another_client(mosquitto.port, "bridge"):
        consumer.wait_log('another client with the client id "bridge"', timeout=30)
        consumer.wait_log(READY, 4, timeout=30)
        waits = [int(wait) for wait in re.findall(r'lost.*"retry_ms":(\d+)', consumer.log())]
        assert len(waits) >= 2 and all(later > earlier for earlier, later in zip(waits, waits[1:])), waits


def dynamic_security(folder):
    """A broker's own access rules: everything, but no subscription under secret/."""
    rules = {
        "defaultACLAccess": {"publishClientSend": True, "publishClientReceive": True, "subscribe": True,
                             "unsubscribe": True},
        "anonymousGroup": "all", "clients": [],
        "groups": [{"groupname": "all", "roles": [{"rolename": "most"}], "clients": []}],
        "roles": [{"rolename": "most", "acls": [{"acltype": "subscribePattern", "topic": "secret/#",
                                                 "priority": 1, "allow": False}]}],
    }
    path = folder / "rules.json"
    path.write_text(json.dumps(rules))
    path.chmod(0o600)
    return {"plugin": "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so", "plugin_opt_config_file": path}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_filter_is_named_and_the_others_work(make_consumer, make_mosquitto, make_publisher, folder,
                                                       version):
    broker = make_mosquitto(options=dynamic_security(folder))
    consumer = make_consumer(broker, version=version, topics="open/# secret/#").start(wait=False)
    consumer.wait_log('filter "secret/#" was refused (' + ("not authorized" if version == "5" else "MQTT 3.1.1 gives"))
    make_publisher(broker.port).publish("open/a", "1")
    assert consumer.wait_entries(1)[0].topic == "open/a"
    assert READY not in consumer.log()


def test_two_consumers_on_one_spool_are_refused(consumer):
    consumer.start()
    second = consumer.bridge.run_program("consumer", name="second")
    assert second.wait() == 1
    assert consumer.process.is_running()


@pytest.fixture
def names(makers):
    return makers.keep(Names(makers.new_folder("names")))


@pytest.fixture
def start_named(make_consumer, names):
    """start_named(port, ADDRESS, ..., tls="yes"): a consumer whose broker is called two.test and has these
    addresses."""
    def start(port, *addresses, **mqtt):
        names.set_hosts(*(f"{address} two.test" for address in addresses))
        consumer = make_consumer(host="two.test", port=port, reconnect_max="300ms", **mqtt)
        consumer.bridge.write_config()
        consumer.process = consumer.bridge._process("consumer", [])
        consumer.process.env = consumer.bridge.environment()
        names.run(consumer.process)
        return consumer
    return start


@pytest.mark.parametrize("address", ["127.0.0.99", "::1"])
def test_a_broker_at_another_address_of_its_name_is_found(start_named, mosquitto, makers, publisher, address):
    port = free_port()
    line = makers.keep(Relay(mosquitto.port, address, port))
    consumer = start_named(port, "127.0.0.1", address)
    consumer.wait_log(f"broker two.test:{port} ({address}): {READY}")
    publisher.publish("a", "1")
    consumer.wait_entries(1)
    line.cut()
    consumer.wait_log(READY, 2)
    assert WANTS_TLS not in consumer.log()


def test_each_address_that_refuses_is_named(start_named):
    port = free_port()
    consumer = start_named(port, "127.0.0.1", "127.0.0.99")
    for address in ("127.0.0.1", "127.0.0.99"):
        consumer.wait_log(f"broker two.test:{port} ({address}): Connection refused")
    assert WANTS_TLS not in consumer.log()


def test_fallback_to_3_1_1_works_behind_an_address_that_refuses(start_named, mosquitto,
                                                                                        makers):
    port = free_port()
    old = makers.keep(OldBroker(mosquitto.port, b"", address="127.0.0.99", own_port=port))
    consumer = start_named(port, "127.0.0.1", "127.0.0.99")
    consumer.wait_log(f"broker two.test:{port} (127.0.0.99): {READY}", timeout=30)
    assert old.refused >= 2 and '"version":"3.1.1"' in consumer.log()


def test_with_tls_the_one_address_that_is_tried_is_named(start_named, mosquitto, makers):
    port = free_port()
    makers.keep(Relay(mosquitto.port, "127.0.0.99", port))
    consumer = start_named(port, "127.0.0.1", "127.0.0.99", tls="yes")
    consumer.wait_log(f"broker two.test:{port} (127.0.0.1, the one of its 2 addresses that is tried with TLS): "
                      "Connection refused")
    assert "ends ours in the TLS handshake" not in consumer.log()


def test_the_consumer_ends_while_its_broker_is_looked_up(start_named, names):
    consumer = start_named(free_port())
    names.wait_question("two.test")
    started = time.monotonic()
    consumer.stop()
    assert time.monotonic() - started < LOOK_UP_S / 4


def test_a_certificate_is_checked_against_the_name_and_not_the_address(start_named, names, make_mosquitto, authority):
    broker = make_mosquitto(options=authority.sign("server", "IP:127.0.0.1,DNS:two.test").options())
    consumer = start_named(broker.port, "127.0.0.1", tls="yes", ca_file=authority.certificate)
    consumer.wait_log(READY)
    consumer.stop()
    names.set_hosts("127.0.0.1 other.test")
    consumer.set("mqtt", host="other.test").bridge.write_config()
    names.run(consumer.process)
    wait_until(lambda: "a certificate for another name" in consumer.log(), 15, lambda: consumer.process.log_tail())
    assert consumer.log().count(READY) == 1


def test_tls_with_its_authority_works_and_without_it_says_why(make_consumer, make_mosquitto, authority):
    broker = make_mosquitto(options=authority.options())
    consumer = make_consumer(broker, tls="yes").start(wait=False)
    consumer.wait_log("TLS: certificate verify failed")
    consumer.stop()
    consumer.set("mqtt", ca_file=authority.certificate).start()
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-h", "127.0.0.1", "--cafile", authority.certificate,
                    "-t", "a", "-m", "1", "-q", "1"], check=True)
    assert consumer.wait_entries(1)[0].payload == b"1"


def test_the_password_of_a_key_is_not_asked_for_at_a_terminal(make_consumer, make_mosquitto, authority):
    authority.openssl("ec", "-in", "server.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key")
    broker = make_mosquitto(options=authority.options())
    bridge = make_consumer(broker, tls="yes", ca_file=authority.certificate, cert_file=authority.folder / "server.pem",
                           key_file=authority.folder / "locked.key").bridge
    bridge.write_config()
    own, terminal = os.openpty()
    os.set_blocking(own, False)
    command = ["setpriv", "--pdeathsig", "KILL", "setsid", "--ctty", build_folder() / "mqtt-bridge-consumer"]
    consumer = subprocess.Popen([*command, "--config", bridge.config], env=bridge.environment(), stdin=terminal,
                                stdout=terminal, stderr=terminal)
    shown = []

    def has_failed():
        with contextlib.suppress(BlockingIOError):
            shown.append(os.read(own, 65536).decode())
        return "TLS: PEM lib" in "".join(shown)

    try:
        wait_until(has_failed, what=lambda: "".join(shown))
        assert "pass phrase" not in "".join(shown)
    finally:
        consumer.kill()
        consumer.wait()
        os.close(own)
        os.close(terminal)
