"""The servers and clients that the other tests stand on do what those tests believe of them."""

import subprocess

import pytest
from bridge import account, jwt, wait_until


def test_a_message_passes_mosquitto_and_waits_for_an_absent_session(mosquitto, publisher):
    subscribe = ["mosquitto_sub", "-p", str(mosquitto.port), "-i", "late", "-c", "-q", "1", "-t", "room/#"]
    subprocess.run([*subscribe, "-E"], check=True)
    publisher.publish_all([(f"room/{number}", str(number)) for number in range(50)])
    got = subprocess.run([*subscribe, "-C", "50", "-W", "10"], check=True, capture_output=True, text=True)
    assert got.stdout.split() == [str(number) for number in range(50)]


def test_mosquitto_keeps_a_session_over_a_restart_on_the_same_port(mosquitto, publisher):
    subscribe = ["mosquitto_sub", "-p", str(mosquitto.port), "-i", "late", "-c", "-q", "1", "-t", "kept"]
    subprocess.run([*subscribe, "-E"], check=True)
    publisher.publish("kept", "still here")
    mosquitto.restart()
    got = subprocess.run([*subscribe, "-C", "1", "-W", "10"], check=True, capture_output=True, text=True)
    assert got.stdout == "still here\n"


def test_mosquitto_with_users_refuses_who_has_no_password(make_mosquitto):
    broker = make_mosquitto(users={"device": "secret"})
    publish = ["mosquitto_pub", "-p", str(broker.port), "-t", "a", "-m", "b"]
    assert subprocess.run(publish, capture_output=True).returncode != 0
    subprocess.run([*publish, "-u", "device", "-P", "secret"], check=True)


def test_the_publisher_knows_that_the_broker_was_away(mosquitto, publisher):
    mosquitto.kill()
    publisher.publish("a", "b", wait=False)
    assert publisher.confirmed == 0
    mosquitto.start()
    publisher.wait_confirmed()


def test_redis_keeps_its_data_over_a_kill(redis):
    redis.client.xadd("messages", {"message": "one"})
    redis.client.config_set("appendfsync", "always")
    redis.client.xadd("messages", {"message": "two"})
    redis.kill()
    redis.start()
    assert redis.client.xlen("messages") == 2


def test_a_frozen_redis_is_silent_and_thaws(redis):
    redis.freeze()
    assert not redis.answers()
    redis.thaw()
    wait_until(redis.answers, 15, "redis answers again")


def test_each_test_has_a_database_of_its_own(postgres, database):
    other = postgres.create_database()
    database.query("CREATE TABLE here (id int)")
    assert database.has_table("here") and not other.has_table("here")
    assert database.failures() == []


def test_postgres_comes_back_on_the_same_port_with_its_data(postgres, database):
    database.query("CREATE TABLE kept (id int)")
    postgres.kill()
    postgres.start()
    assert database.has_table("kept")


def test_a_published_update_reaches_an_sse_client(hub, sse):
    status, body = hub.publish("rooms/1", '{"a":1}', id="urn:x:1")
    assert (status, body) == (200, "urn:x:1")
    event = sse.wait_count(1)[0]
    assert (event.id, event.data) == ("urn:x:1", '{"a":1}')


def test_the_hub_refuses_a_token_of_another_key(hub):
    assert hub.publish("rooms/1", "x", token=jwt("another-key-that-the-hub-does-not-have"))[0] == 401


def test_a_hub_with_history_replays_after_the_last_event_id(make_hub):
    hub = make_hub(history=1000)
    for number in range(5):
        hub.publish("rooms/1", str(number), id=f"urn:x:{number}")
    client = hub.subscribe("rooms/1", last_event_id="urn:x:1")
    try:
        assert [event.data for event in client.wait_count(3)] == ["2", "3", "4"]
    finally:
        client.close()


def test_an_sse_client_comes_back_by_itself_when_its_hub_does(hub, sse):
    hub.restart()
    wait_until(lambda: sse.connections == 2 and sse.connected.is_set(), 10, "the client is back")
    hub.publish("rooms/1", "after", id="urn:x:after")
    assert sse.wait_count(1)[0].data == "after"


@pytest.mark.parametrize("fault, said", [
    ("lose", "missing"), ("double", "repeated"), ("swap", "disordered"), ("invent", "strange")])
def test_an_account_finds_each_kind_of_fault(hub, sse, fault, said):
    sent = [("a", "1"), ("a", "2"), ("a", "3")]
    arrive = {"lose": sent[:2], "double": [*sent, sent[0]], "swap": [sent[1], sent[0], sent[2]],
              "invent": [*sent, ("a", "4")]}[fault]
    for topic, payload in arrive:
        hub.publish(topic, '{"topic":"%s","payload":%s}' % (topic, payload), id=f"urn:x:{payload}")
    result = account(sent, sse.wait_count(len(arrive)))
    found = [name for name, value in result._asdict().items() if value]
    assert found == [said]
