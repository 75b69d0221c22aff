"""`check --connect` on real servers: it says ok only where the bridge can work, and else what to mend."""

import json
import os
import re
import socketserver
import subprocess
import threading
import time

import pytest
import redis as redis_py
from bridge import free_port, wait_until
from bridge.access_rules import allow, guard, rules_of
from bridge.authority import Authority
from bridge.consumer import READY, VERSIONS
from bridge.names import LOOK_UP_S, Names
from bridge.program import ROOT, build_folder
from bridge.relays import OldBroker

NO_REDIS = "redis://127.0.0.1:1/messages"


class Check:
    """One run's answer: exit code, each server's line, all that was printed."""

    def __init__(self, folder, ini, env=None, prefix=()):
        path = folder / "check.ini"
        path.write_text("[worker]\ncount = 0\n" + ini)
        path.chmod(0o600)
        clean = {name: value for name, value in os.environ.items()
                 if name in ("PATH", "HOME", "LD_LIBRARY_PATH") or name.endswith("SAN_OPTIONS")}
        begun = time.monotonic()
        result = subprocess.run([*prefix, build_folder() / "mqtt-bridge", "check", "--connect", "--json", "--config",
                                 path], text=True, capture_output=True, timeout=100, env={**clean, **(env or {})},
                                stdin=subprocess.DEVNULL, start_new_session=True)
        self.seconds = time.monotonic() - begun
        self.code = result.returncode
        self.printed = result.stdout + result.stderr
        self.servers = json.loads(result.stdout)["servers"]

    def of(self, name):
        found = [server for server in self.servers if server["name"] == name]
        assert len(found) == 1, self.servers
        return found[0]


@pytest.fixture
def check_broker(folder):
    """The broker's line."""
    def check(env=None, **mqtt):
        lines = "".join(f"{key} = {value}\n" for key, value in mqtt.items())
        answer = Check(folder, f"[mqtt]\n{lines}[transport:async]\ndsn = {NO_REDIS}\n", env).of("broker")
        return answer["ok"], answer["text"]
    return check


def test_a_proxy_of_the_environment_is_for_the_hub_alone(folder, mosquitto, hub):
    nobody = f"http://127.0.0.1:{free_port()}"
    ini = (f"[mqtt]\nport = {mosquitto.port}\n[transport:async]\ndsn = {NO_REDIS}\n"
           f"[mercure]\nurl = {hub.url}\njwt_secret = {hub.publisher_key}\n")
    check = Check(folder, ini, {"http_proxy": nobody, "https_proxy": nobody})
    assert check.of("broker")["ok"] and not check.of("hub")["ok"], check.printed
    assert "environment http_proxy: the hub is asked through the proxy" in check.printed
    check = Check(folder, ini, {"http_proxy": nobody, "https_proxy": nobody, "no_proxy": "127.0.0.1"})
    assert check.of("broker")["ok"] and check.of("hub")["ok"], check.printed
    assert "through the proxy" not in check.printed


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_password_is_distinguished_from_a_right_one(check_broker, make_mosquitto, version):
    broker = make_mosquitto(users={"bridge": "right"})
    settings = {"port": broker.port, "version": version, "username": "bridge"}
    assert check_broker(**settings, password="right") == (True, "")
    ok, text = check_broker(**settings, password="hunter2")
    assert not ok and text == ("it refuses the connection: not authorized; see [mqtt] username and password "
                               "(MQTT_USERNAME, MQTT_PASSWORD)")


@pytest.mark.parametrize("answer", [bytes([0x20, 2, 0, 1]), bytes([0x20, 3, 0, 0x84, 0]), b""],
                         ids=["3.1.1's refusal", "5's refusal", "hangs up"])
def test_a_broker_without_mqtt_5_is_well_and_that_is_noted(check_broker, mosquitto, makers, answer):
    old = makers.keep(OldBroker(mosquitto.port, answer))
    assert check_broker(port=old.port) == (True, "it refuses MQTT 5; 3.1.1 is used")
    assert old.refused == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_client_id_is_distinguished_from_a_wrong_password(check_broker, make_mosquitto, version):
    broker = make_mosquitto(options={"clientid_prefixes": "device-"})
    ok, text = check_broker(port=broker.port, version=version)
    assert not ok and re.search(r'only certain client ids\? This check\'s is "mqtt-bridge-check-[0-9a-f]{5}"', text)
    assert check_broker(port=broker.port, version=version, client_id="device-1") == (True, "")


def test_each_server_and_each_consumer_has_a_line(folder, make_mosquitto):
    one, other = make_mosquitto(), make_mosquitto(users={"garden": "right"})
    away = free_port()
    check = Check(folder, f"[mqtt]\nserver_uris = tcp://127.0.0.1:{one.port}, tcp://127.0.0.1:{away}\n"
                          f"[consumer:garden]\ntopics = garden/#\nserver_uris = mqtt://localhost:{other.port}\n"
                          f"username = garden\npassword = hunter2\n")
    brokers = [server for server in check.servers if server["name"].startswith("broker")]
    assert [(server["name"], server["ok"]) for server in brokers] == \
        [("broker", True), ("broker", False), ("broker of garden", False)]
    assert brokers[1]["text"] == "Connection refused; see server_uris"
    assert "not authorized; see username and password of [consumer:garden]" in brokers[2]["text"]
    assert check.code == 1 and "hunter2" not in check.printed


def test_check_does_not_disconnect_a_running_consumer(folder, make_consumer, mosquitto, publisher):
    consumer = make_consumer(status_topic="status").start()
    check = Check(folder, f"[mqtt]\nport = {mosquitto.port}\nclient_id = bridge\n")
    assert check.of("broker")["ok"]
    entry = wait_until(lambda: re.search(r"as (bridge-check-[0-9a-f]{5}) \(p5, c1, ", mosquitto.log()), 10,
                       mosquitto.log)
    wait_until(lambda: f"Client {entry[1]} disconnected." in mosquitto.log(), 10, mosquitto.log)
    publisher.publish("a", "1")
    consumer.wait_entries(1)
    assert consumer.log().count(READY) == 1
    assert not re.search(r"already connected|session taken over", mosquitto.log())


def test_an_ipv6_address_needs_no_brackets(check_broker, make_mosquitto):
    port = free_port()
    make_mosquitto(options={"listener": f"{port} ::1"})
    assert check_broker(host="::1", port=port) == (True, "")
    assert check_broker(host="[::1]", port=port) == (True, "")
    assert check_broker(server_uris=f"tcp://[::1]:{port}") == (True, "")


def test_an_unknown_host_is_reported(check_broker):
    ok, text = check_broker(host="no-such-host.invalid")
    assert not ok and re.search(r"not known|resolution|No address", text) and "MQTT_HOST" in text


@pytest.mark.parametrize("tls", ["yes", "no"])
def test_a_frozen_broker_is_not_waited_for_long(check_broker, mosquitto, tls):
    mosquitto.freeze()
    ok, text = check_broker(port=mosquitto.port, tls=tls)
    assert not ok and text.startswith("it takes the connection but gives no answer within 5 s; see [mqtt] host")


def test_a_silent_name_server_is_not_waited_for_long(folder, makers):
    names = makers.keep(Names(makers.new_folder("names")))
    check = Check(folder, f"[mqtt]\nhost = broker.test\n[transport:async]\ndsn = {NO_REDIS}\n", prefix=names.prefix())
    assert check.of("broker")["text"].startswith("the name servers give no answer within 5 s; see [mqtt] host")
    assert check.seconds < LOOK_UP_S


@pytest.mark.parametrize("version", VERSIONS)
def test_check_logs_in_to_the_broker_over_tls(check_broker, make_mosquitto, authority, version):
    broker = make_mosquitto(options=authority.options(), users={"bridge": "right"})
    settings = {"port": broker.port, "tls": "yes", "ca_file": authority.certificate, "username": "bridge",
                "version": version}
    assert check_broker(**settings, password="right") == (True, "")
    ok, text = check_broker(**settings, password="hunter2")
    assert not ok and "not authorized" in text and "MQTT_PASSWORD" in text


def test_an_authority_that_is_not_the_brokers_is_named(check_broker, make_mosquitto, makers, authority):
    broker = make_mosquitto(options=authority.options())
    other = Authority(makers.new_folder("other")).certificate
    ok, text = check_broker(port=broker.port, tls="yes", ca_file=other)
    assert not ok and "certificate is not trusted" in text and text.endswith(f"and is {other}")
    ok, text = check_broker(port=broker.port, tls="yes")
    assert not ok and text.endswith("ca_file must hold the authority that signed it, and is not given: the system's "
                                    "authorities")
    assert check_broker(port=broker.port, tls="yes", tls_verify="no") == (True, "")


def test_a_certificate_for_another_name_is_reported_with_its_names(check_broker, make_mosquitto, authority):
    authority.sign("other", "DNS:broker.example.org,IP:127.0.0.9")
    broker = make_mosquitto(options=authority.options("other"))
    settings = {"port": broker.port, "tls": "yes", "ca_file": authority.certificate}
    ok, text = check_broker(**settings)
    assert not ok and ("certificate is not for 127.0.0.1, but for DNS:broker.example.org, IP Address:127.0.0.9; see "
                       "[mqtt] host (MQTT_HOST)") in text
    assert check_broker(**settings, tls_verify="no") == (True, "")


def test_an_ipv6_address_can_not_be_compared_with_a_certificate(check_broker, make_mosquitto, authority):
    authority.sign("server", "IP:::1,DNS:localhost")
    port = free_port()
    make_mosquitto(options={"listener": f"{port} ::1", **authority.options()})
    settings = {"host": "::1", "port": port, "tls": "yes", "ca_file": authority.certificate}
    ok, text = check_broker(**settings)
    assert not ok and "IPv6" in text
    assert check_broker(**settings, tls_verify="no") == (True, "")


def test_check_recognises_tls_on_a_plain_port_and_plain_on_a_tls_port(check_broker, mosquitto, make_mosquitto,
                                                                      authority):
    ok, text = check_broker(port=mosquitto.port, tls="yes")
    assert not ok and "is there TLS on that port?" in text and "MQTT_TLS" in text
    broker = make_mosquitto(options=authority.options())
    ok, text = check_broker(port=broker.port)
    assert not ok and "does it want TLS (MQTT_TLS)?" in text


def test_our_certificate_is_sent_and_a_missing_one_is_reported(check_broker, make_mosquitto, authority):
    ca = authority.certificate
    broker = make_mosquitto(options={**authority.options(), "cafile": ca, "require_certificate": "true"})
    authority.sign("client")
    authority.openssl("ec", "-in", "client.key", "-aes256", "-passout", "pass:right", "-out", "locked.key")
    settings = {"port": broker.port, "tls": "yes", "ca_file": ca}
    ok, text = check_broker(**settings)
    assert not ok and re.search(r"the server wants a certificate of ours .*; give it with cert_file and key_file", text)
    settings["cert_file"] = authority.folder / "client.pem"
    assert check_broker(**settings, key_file=authority.folder / "client.key") == (True, "")
    settings["key_file"] = authority.folder / "locked.key"
    assert check_broker(**settings, env={"MQTT_KEY_PASSWORD": "right"}) == (True, "")
    for env in ({"MQTT_KEY_PASSWORD": "hunter2"}, {}):
        ok, text = check_broker(**settings, env=env)
        assert not ok and text.startswith(f"TLS: key_file {settings['key_file']}: ") and "MQTT_KEY_PASSWORD" in text
        assert "hunter2" not in text
    ok, text = check_broker(**{**settings, "key_file": authority.folder / "server.key"})
    assert not ok and "key_file" in text and "mismatch" in text


def test_a_missing_authority_file_is_reported(check_broker, mosquitto, folder):
    ok, text = check_broker(port=mosquitto.port, tls="yes", ca_file=folder / "none.pem")
    assert not ok and text.startswith(f"TLS: ca_file {folder}/none.pem: No such file or directory")


class SameAnswer(socketserver.StreamRequestHandler):
    """Gives one answer to every command."""

    def handle(self):
        while (line := self.rfile.readline()).startswith(b"*"):
            for _ in range(int(line[1:])):
                self.rfile.read(int(self.rfile.readline()[1:]) + 2)
            self.wfile.write(self.server.answer)


@pytest.mark.parametrize("answer", [b"-ERR max number of clients reached\r\n", b"-ERR unknown command\r\n",
                                    b"-LOADING Redis is loading the dataset in memory\r\n"])
def test_a_redis_that_answers_nothing_but_errors_is_not_ok(folder, mosquitto, answer):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), SameAnswer) as server:
        server.answer, server.daemon_threads = answer, True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        dsn = f"redis://127.0.0.1:{server.server_address[1]}/messages"
        check = Check(folder, f"[mqtt]\nport = {mosquitto.port}\n[transport:async]\ndsn = {dsn}\n")
        server.shutdown()
        thread.join()
    assert not check.of("redis")["ok"] and answer.decode().strip("-\r\n") in check.of("redis")["text"]


KEYS = ["~messages", "~messages__queue", "~{messages}__*"]
ADMIN = "root"


@pytest.fixture
def guarded(make_redis):
    return guard(make_redis(), "secret")


@pytest.fixture
def check_redis(folder, mosquitto, guarded):
    def check(path="/messages", last_values=10000, **options):
        dsn = guarded.dsn(path, **options).replace("redis://", "redis://bridge:secret@")
        answer = Check(folder, f"[mqtt]\nport = {mosquitto.port}\n[transport:async]\ndsn = {dsn}\n"
                               f"[page]\nlast_values = {last_values}\n")
        assert "secret" not in answer.printed
        assert answer.code == (0 if answer.of("redis")["ok"] else 1)
        return answer.of("redis")
    return check


@pytest.mark.parametrize("options", [{}, {"delete_after_ack": "false"}], ids=["deleting", "keeping"])
def test_the_acl_rules_that_check_names_let_check_pass(guarded, check_redis, options):
    answer = check_redis(**options)
    assert not answer["ok"] and "NOPERM: the user bridge may not run XLEN, XADD, " in answer["text"]
    allow(guarded, *rules_of(answer["text"]))
    assert check_redis(**options)["ok"]


def test_no_command_that_the_programs_send_is_left_out(check_redis):
    sources = [*(ROOT / "common/client").glob("queue*.c"), ROOT / "monitor/main.c"]
    text = "".join(path.read_text() for path in sources)
    sent = set(re.findall(r"""(?:redis\.p?call\('|CALL\(probe, &?\w+, BYTES\("|ask_number\(probe, "|"""
                          r"""_count\([^;]+\);\s+redis_write_argument\(&?[\w>.-]+, BYTES\(")([A-Z]+)\W""", text))
    sent |= set(re.findall(r"""\s"([A-Z]+) [%A-Z]""", text))
    informing = {"CONFIG", "INFO"}
    assert {"XADD", "XREADGROUP", "XLEN", "ZRANGEBYSCORE", "SMEMBERS", "SCRIPT", "EVALSHA"} <= sent
    tried = {rule[1:].split("|")[0].upper() for rule in rules_of(check_redis(delete_after_ack="false")["text"])}
    assert sent - informing - tried == set()


def test_check_asks_for_hash_commands_only_with_last_values_on(check_redis):
    with_them, without = (set(rules_of(check_redis(last_values=number)["text"])) for number in (1, 0))
    assert with_them - without == {"+hget", "+hset", "+hlen", "+hdel", "+hrandfield", "+hscan"} and without < with_them


def test_a_stream_with_a_hash_tag_has_its_keys_under_it(guarded, check_redis):
    rules = rules_of(check_redis("/{m}")["text"])
    assert rules[-3:] == ["~{m}", "~{m}__queue", "~{m}__*"]
    allow(guarded, *rules)
    assert check_redis("/{m}")["ok"]


def test_a_user_with_the_rights_of_an_earlier_version_lacks_some(guarded, check_redis):
    allow(guarded, *KEYS, "+ping", "+type", "+xlen", "+zcard", "+eval", "+exists")
    answer = check_redis()
    assert not answer["ok"] and {"+xadd", "+xreadgroup", "+script|load"} <= set(rules_of(answer["text"]))


def test_check_names_each_redis_command_that_the_acl_denies(guarded, check_redis):
    needed = [rule for rule in rules_of(check_redis()["text"]) if rule.startswith("+")]
    assert len(needed) > 20
    for rule in needed:
        allow(guarded, "resetkeys", "-@all", *KEYS, *needed)
        allow(guarded, "-" + rule[1:])
        answer = check_redis()
        name = rule[1:].replace("|", " ").upper()
        assert answer["text"] == f"NOPERM: the user bridge may not run {name}; allow it: ACL SETUSER bridge {rule}"


@pytest.mark.parametrize("missing", KEYS)
def test_a_key_that_is_closed_is_named_with_its_rule(guarded, check_redis, missing):
    allow(guarded, "+@all", *(key for key in KEYS if key != missing))
    answer = check_redis()
    assert answer["text"] == (f"NOPERM: the user bridge may not use the key {missing[1:]}; allow it: "
                              f"ACL SETUSER bridge {missing}")


def test_keys_that_may_only_be_read_are_not_enough(guarded, check_redis):
    try:
        allow(guarded, "+@all", "%R~messages", *KEYS[1:])
    except redis_py.ResponseError:
        pytest.skip("this Redis has no rules for reading alone")
    assert rules_of(check_redis()["text"]) == ["~messages"]


def test_a_database_that_may_not_be_selected_is_reported(guarded, check_redis):
    allow(guarded, "+@all", "-select", *KEYS)
    assert rules_of(check_redis(dbindex=1)["text"]) == ["+select"]


def test_a_wrong_password_is_reported(guarded, check_redis):
    allow(guarded, "+@all", *KEYS, "resetpass", ">other")
    answer = check_redis()
    assert not answer["ok"] and "WRONGPASS" in answer["text"] and "MESSENGER_TRANSPORT_DSN" in answer["text"]


def test_the_acl_rules_that_check_names_let_the_bridge_work(guarded, check_redis, make_bridge, mosquitto, hub, database,
                                                            publisher, sse):
    allow(guarded, *rules_of(check_redis()["text"]))
    client = guarded.client
    client.acl_log_reset()
    bridge = make_bridge(mosquitto=mosquitto, redis=guarded, hub=hub, database=database)
    bridge.settings["transport:async"]["dsn"] = guarded.dsn().replace("redis://", "redis://bridge:secret@")
    bridge.start()
    publisher.publish("a/x", "1", qos=1)
    sse.wait_topic("a/x")
    guarded.wait_drained()
    bridge.stop()
    refused = {entry["object"] for entry in client.acl_log()}
    assert refused <= {"config", "config|get", "info", "xinfo", "xinfo|groups"}, "these only inform"


def snapshot(redis):
    client = redis.client
    consumers = [(each["name"], each["pending"]) for each in client.xinfo_consumers("messages", "symfony")]
    return {key: client.dump(key) for key in client.keys()}, client.xinfo_groups("messages"), consumers, \
        client.info("memory")["number_of_cached_scripts"]


def test_check_changes_no_key_in_redis(guarded, check_redis):
    client = guarded.client
    client.xadd("messages", {"message": "one"})
    client.xgroup_create("messages", "symfony", 0)
    client.xreadgroup("symfony", "someone", {"messages": ">"})
    client.zadd("messages__queue", {"member": 1})
    before = snapshot(guarded)
    check_redis()
    allow(guarded, "+@all", *KEYS)
    assert check_redis()["ok"]
    for rules in (["-del"], ["-srem"], ["-pexpire"]):
        allow(guarded, *rules)
        assert not check_redis()["ok"]
    wait_until(lambda: snapshot(guarded) == before, 10, lambda: f"{snapshot(guarded)} is {before}")


def test_another_group_on_the_stream_is_a_fault(guarded, check_redis):
    allow(guarded, "+@all", "allkeys")
    for group in ("symfony", "analytics"):
        guarded.client.xgroup_create("messages", group, 0, mkstream=True)
    answer = check_redis()
    assert not answer["ok"]
    assert "has another consumer group beside symfony: analytics. What one acknowledges is deleted" in answer["text"]
    assert check_redis(delete_after_ack="false", delete_after_reject="false")["ok"]
    guarded.client.xgroup_destroy("messages", "analytics")
    assert check_redis()["ok"]


def test_other_streams_with_a_group_are_named(guarded, check_redis, folder, mosquitto):
    """The DSN may lack what messenger.yaml says."""
    allow(guarded, "+@all", "allkeys")
    client = guarded.client
    client.xgroup_create("orders", "symfony", 0, mkstream=True)
    client.xadd("no group", {"a": "b"})
    client.set("no stream", "x")
    client.execute_command("SELECT", 3)
    client.xgroup_create("messages", "php", 0, mkstream=True)
    answer = check_redis()
    assert answer["ok"] and re.search(r"other streams with a consumer group on this server: orders \(group symfony\), "
                                      r"messages \(group php, dbindex 3\); if PHP", answer["text"]), answer
    assert "orders (" not in check_redis("/orders")["text"]


@pytest.mark.parametrize("key, kind", [("messages", "stream"), ("messages__queue", "sorted set")])
def test_a_key_of_another_kind_is_reported_once(guarded, check_redis, key, kind):
    allow(guarded, "+@all", *KEYS)
    guarded.client.set(key, "x")
    text = check_redis()["text"]
    assert text == f"the key {key} is a string, not a {kind}; name another stream in [transport:async] dsn"
    allow(guarded, "-type")
    assert f"the key {key} is something else, not a {kind}" in check_redis()["text"]


def test_a_frozen_redis_is_not_waited_for_long(guarded, check_redis):
    guarded.freeze()
    answer = check_redis()
    assert not answer["ok"] and "MESSENGER_TRANSPORT_DSN" in answer["text"]
