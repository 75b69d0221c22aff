"""`check --connect` where the failure transport is a stream of a Redis with access rules."""

import json

import pytest
from bridge import wait_until
from bridge.access_rules import allow, guard, rules_of
from bridge.entries import php_value
from bridge.hub import REFUSED_TOPIC

KEYS = ["~failed", "~failed__queue", "~{failed}__*"]
INFORMING = {"config", "config|get", "info", "xinfo", "xinfo|groups"}


@pytest.fixture
def failures(make_redis):
    return guard(make_redis(), "hush-7")


@pytest.fixture
def bridge(make_bridge, redis, hub, failures):
    bridge = make_bridge(redis=redis, hub=hub)
    bridge.settings["failure"]["dsn"] = failures.dsn("/failed").replace("redis://", "redis://bridge:hush-7@")
    return bridge


def check(bridge):
    said = bridge.cli("check", "--connect", "--json", check=False).stdout
    assert "hush-7" not in said
    server, = (server for server in json.loads(said)["servers"] if server["name"] == "failure transport")
    return server["ok"], server["text"]


def test_a_right_that_is_missing_is_named_with_its_rule(bridge, failures):
    ok, text = check(bridge)
    assert not ok and text.startswith("NOPERM: the user bridge may not run XLEN, XADD, ")
    needed = rules_of(text)
    assert needed[-3:] == KEYS and {"+xrevrange", "+evalsha"} <= set(needed) and "+xreadgroup" not in needed
    allow(failures, *needed)
    ok, text = check(bridge)
    assert ok, text
    for rule in needed[:-3]:
        allow(failures, "-" + rule[1:])
        name = rule[1:].replace("|", " ").upper()
        ok, text = check(bridge)
        assert not ok and text.startswith(f"NOPERM: the user bridge may not run {name}; ")
        assert rules_of(text)[0] == rule
        allow(failures, rule)
    assert failures.client.keys() == []


def test_acl_rules_named_by_check_suffice_to_store_and_retry_failures(bridge, redis, failures):
    allow(failures, *rules_of(check(bridge)[1]))
    failures.client.acl_log_reset()
    for number in range(3):
        redis.client.xadd("messages", {"message": php_value(REFUSED_TOPIC, f"poison {number}")})
    worker = bridge.run_program("worker")
    wait_until(lambda: failures.client.xlen("failed") == 3, 20, worker.log_tail)
    worker.stop()
    ids = [row["id"] for row in json.loads(bridge.cli("failed", "list", "--json").stdout)]
    assert len(ids) == 3
    bridge.cli("failed", "show", ids[0])
    bridge.cli("failed", "remove", ids[0])
    bridge.cli("failed", "retry", "--all", "-y")
    assert failures.client.xlen("failed") == 0 and redis.client.xlen("messages") == 2
    assert {entry["object"] for entry in failures.client.acl_log()} <= INFORMING


def test_a_key_of_another_kind_and_a_wrong_password_are_reported(bridge, failures):
    allow(failures, "+@all", *KEYS)
    failures.client.set("failed", "1")
    ok, text = check(bridge)
    assert not ok and text.startswith("the key failed is a string, not a stream; name another stream in [failure] dsn")
    allow(failures, "resetpass", ">other")
    ok, text = check(bridge)
    assert not ok and "WRONGPASS" in text and "see [failure] dsn (MESSENGER_FAILURE_TRANSPORT_DSN)" in text
