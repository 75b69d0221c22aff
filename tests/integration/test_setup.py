"""`mqtt-bridge setup`: the stream, the consumer group and the failure table, as messenger:setup-transports makes them."""

import json

import pytest
from bridge import wait_until
from bridge.entries import add, php_value
from bridge.hub import REFUSED_TOPIC
from bridge.process import free_port


def set_up(bridge, code=0):
    bridge.write_config()
    answer = bridge.cli("setup", check=False)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer.stdout if code == 0 else answer.stderr


def set_up_json(bridge, code=0):
    bridge.write_config()
    answer = bridge.cli("setup", "--json", check=False)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


def test_setup_makes_what_is_missing_and_says_what_was_there(bridge, redis, database):
    first = set_up(bridge)
    assert "async redis://" in first and "stream `messages` made, group `symfony` made" in first
    assert "table `messenger_messages` made" in first and database.server.PASSWORD not in first
    assert [group["name"] for group in redis.client.xinfo_groups("messages")] == [b"symfony"]
    assert database.has_table()
    second = set_up(bridge)
    assert "made" not in second and second.count("was there") == 3


def test_setup_makes_the_group_alone_where_the_stream_has_entries(bridge, redis):
    redis.client.xadd("messages", {"message": php_value("a", "1")})
    bridge.settings["transport:more"] = {"dsn": redis.dsn("/others/group2")}
    one, other, table = set_up_json(bridge)
    assert (one["ok"], one["stream"], one["group"], one["made"]) == (True, "messages", "symfony", ["group"])
    assert (other["name"], other["stream"], other["made"]) == ("more", "others", ["stream", "group"])
    assert (table["name"], table["table"], table["made"]) == ("failure transport", "messenger_messages", ["table"])
    assert redis.client.xinfo_groups("messages")[0]["last-delivered-id"] == b"0-0", "what waits is not passed over"


def test_setup_says_whether_failure_stream_and_group_were_there(bridge, redis):
    bridge.settings["failure"]["dsn"] = redis.dsn("/failed/retries")
    redis.client.xadd("failed", {"message": php_value("a", "1")})
    assert "stream `failed` was there, group `retries` made" in set_up(bridge)
    assert "stream `failed` was there, group `retries` was there" in set_up(bridge)
    redis.client.delete("failed")
    _, failed = set_up_json(bridge)
    assert (failed["stream"], failed["group"], failed["made"]) == ("failed", "retries", ["stream", "group"])


def test_a_server_that_is_away_does_not_hold_up_the_others(bridge, database):
    bridge.settings["transport:async"]["dsn"] = f"redis://127.0.0.1:{free_port()}/messages"
    said = set_up(bridge, code=1)
    assert "async redis://" in said and "refused" in said and "MESSENGER_TRANSPORT_DSN" in said
    assert database.has_table()
    redis_answer, table = set_up_json(bridge, code=1)
    assert not redis_answer["ok"] and "refused" in redis_answer["error"] and table["ok"]


def test_the_variable_of_a_failure_transport_that_is_away_is_named(bridge):
    for dsn, variable in [(f"redis://127.0.0.1:{free_port()}/failed", "MESSENGER_FAILURE_TRANSPORT_DSN"),
                          (f"postgresql://bridge@127.0.0.1:{free_port()}/postgres", "DATABASE_URL")]:
        bridge.settings["failure"]["dsn"] = dsn
        assert f"see [failure] dsn ({variable})" in set_up(bridge, code=1)


def test_a_key_of_another_type_is_named(bridge, redis):
    redis.client.set("messages", "something else")
    assert "WRONGTYPE" in set_up(bridge, code=1)


def test_without_a_failure_transport_setup_says_so(make_bridge, redis):
    bridge = make_bridge(redis=redis)
    bridge.write_config()
    answer = bridge.cli("setup")
    assert "there is no failure transport" in answer.stderr and "group `symfony` made" in answer.stdout


@pytest.mark.parametrize("maker", ["setup", "worker"])
def test_php_s_setup_passes_on_the_table_that_ours_made(bridge, redis, database, php_peer, hub, maker):
    """DBAL 3 changes a column that is an identity into a serial, and fails."""
    if maker == "setup":
        set_up(bridge)
    else:
        add(redis, REFUSED_TOPIC, "before")
        bridge.run_program("worker")
        redis.wait_drained()
    php_peer.run("messenger:setup-transports")
    assert "was there" in set_up(bridge)
    before = len(database.failures())
    if maker == "setup":
        bridge.run_program("worker")
    add(redis, REFUSED_TOPIC, "after")
    redis.wait_drained()
    ids = [row["id"] for row in database.failures()]
    assert len(ids) == before + 1 and ids == list(range(1, len(ids) + 1))
    assert str(ids[-1]) in php_peer.run("messenger:failed:show").stdout
    php_peer.run("messenger:setup-transports")


def test_rows_are_written_after_doctrine_has_made_the_id_anew(bridge, redis, database, hub):
    """DBAL 4 makes an identity of a serial, and its sequence begins at 1 again."""
    worker = bridge.run_program("worker")
    for payload in ("one", "two"):
        add(redis, REFUSED_TOPIC, payload)
    redis.wait_drained()
    database.query("ALTER TABLE messenger_messages ALTER id DROP DEFAULT")
    database.query("ALTER TABLE messenger_messages ALTER id ADD GENERATED BY DEFAULT AS IDENTITY")
    for payload in ("three", "four"):
        add(redis, REFUSED_TOPIC, payload)
    wait_until(lambda: len(database.failures()) == 4, 20, worker.log_tail)
    assert [row["id"] for row in database.failures()] == [1, 2, 3, 4]
    redis.wait_drained()
