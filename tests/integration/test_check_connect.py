"""`check --connect` on real servers: it says ok only where the bridge can work, and else what to mend."""

import json
import os
import re
import subprocess

import pytest
import redis as redis_py
from bridge import wait_until
from bridge.program import ROOT, build_folder


class Check:
    """One run's answer: exit code, each server's line, all that was printed."""

    def __init__(self, folder, ini, env=None, prefix=()):
        path = folder / "check.ini"
        path.write_text("[worker]\ncount = 0\n" + ini)
        clean = {name: value for name, value in os.environ.items()
                 if name in ("PATH", "HOME", "LD_LIBRARY_PATH") or name.endswith("SAN_OPTIONS")}
        result = subprocess.run([*prefix, build_folder() / "mqtt-bridge", "check", "--connect", "--json", "--config",
                                 path], text=True, capture_output=True, timeout=100, env={**clean, **(env or {})},
                                stdin=subprocess.DEVNULL, start_new_session=True)
        self.code = result.returncode
        self.printed = result.stdout + result.stderr
        self.servers = json.loads(result.stdout)["servers"]

    def of(self, name):
        found = [server for server in self.servers if server["name"] == name]
        assert len(found) == 1, self.servers
        return found[0]


# Redis: access rules -------------------------------------------------------------------------------------

KEYS = ["~messages", "~messages__queue", "~{messages}__*"]
ADMIN = "root"


@pytest.fixture
def guarded(make_redis):
    """A Redis with a user `bridge` who may do nothing yet."""
    redis = make_redis()
    redis.client.execute_command("ACL", "SETUSER", "bridge", "on", ">secret")
    return redis


@pytest.fixture
def check_redis(folder, mosquitto, guarded):
    def check(path="/messages", **options):
        dsn = guarded.dsn(path, **options).replace("redis://", "redis://bridge:secret@")
        answer = Check(folder, f"[mqtt]\nport = {mosquitto.port}\n[transport:async]\ndsn = {dsn}\n")
        assert "secret" not in answer.printed
        assert answer.code == (0 if answer.of("redis")["ok"] else 1)
        return answer.of("redis")
    return check


def allow(redis, *rules):
    redis.client.execute_command("ACL", "SETUSER", "bridge", *rules)


def rules_of(answer):
    """What it says that would mend it."""
    return re.search(r"allow it: ACL SETUSER bridge ([^;]*)", answer["text"])[1].split()


@pytest.mark.parametrize("options", [{}, {"delete_after_ack": "false"}], ids=["deleting", "keeping"])
def test_the_rules_that_it_names_are_enough(guarded, check_redis, options):
    answer = check_redis(**options)
    assert not answer["ok"] and "NOPERM: the user bridge may not run XLEN, XADD, " in answer["text"]
    allow(guarded, *rules_of(answer))
    assert check_redis(**options)["ok"]


def test_no_command_that_the_programs_send_is_left_out(check_redis):
    sources = [*(ROOT / "common/client").glob("queue*.c"), ROOT / "monitor/queue_probe.c"]
    sent = set(re.findall(r"""(?:redis\.p?call\('|= \{BYTES\("|CALL\(probe, &?\w+, BYTES\("|number\(probe, ")([A-Z]+)\W""",
                          "".join(path.read_text() for path in sources)))
    informing = {"CONFIG", "INFO"}
    assert {"XADD", "XREADGROUP", "XLEN", "ZRANGEBYSCORE", "SMEMBERS", "SCRIPT", "EVALSHA"} <= sent
    tried = {rule[1:].split("|")[0].upper() for rule in rules_of(check_redis(delete_after_ack="false"))}
    assert sent - informing - tried == set()


def test_a_stream_with_a_hash_tag_has_its_keys_under_it(guarded, check_redis):
    rules = rules_of(check_redis("/{m}"))
    assert rules[-3:] == ["~{m}", "~{m}__queue", "~{m}__*"]
    allow(guarded, *rules)
    assert check_redis("/{m}")["ok"]


def test_what_was_enough_once_is_not(guarded, check_redis):
    allow(guarded, *KEYS, "+ping", "+type", "+xlen", "+zcard", "+eval", "+exists")
    answer = check_redis()
    assert not answer["ok"] and {"+xadd", "+xreadgroup", "+script|load"} <= set(rules_of(answer))


def test_every_single_command_is_missed(guarded, check_redis):
    needed = [rule for rule in rules_of(check_redis()) if rule.startswith("+")]
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
    assert rules_of(check_redis()) == ["~messages"]


def test_a_database_that_may_not_be_selected_is_said(guarded, check_redis):
    allow(guarded, "+@all", "-select", *KEYS)
    assert rules_of(check_redis(dbindex=1)) == ["+select"]


def test_a_wrong_password_is_said(guarded, check_redis):
    allow(guarded, "+@all", *KEYS, "resetpass", ">other")
    answer = check_redis()
    assert not answer["ok"] and "WRONGPASS" in answer["text"] and "MESSENGER_TRANSPORT_DSN" in answer["text"]


def test_a_bridge_with_those_rules_alone_works(guarded, check_redis, make_bridge, mosquitto, hub, database, publisher,
                                               sse):
    allow(guarded, *rules_of(check_redis()))
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


def test_trying_changes_nothing(guarded, check_redis):
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


@pytest.mark.parametrize("key, kind", [("messages", "stream"), ("messages__queue", "sorted set")])
def test_a_key_of_another_kind_is_said_once(guarded, check_redis, key, kind):
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
