"""Symfony Messenger itself, before the bridge meets it: what it dispatches it consumes, and its failures
land in the table."""

import json

import pytest
from bridge import wait_until


@pytest.mark.parametrize("serializer", ["php", "json"])
def test_php_consumes_what_php_dispatched(make_php_peer, serializer):
    peer = make_php_peer(serializer=serializer)
    peer.dispatch("sensors/salle été/temp", '{"temp":21.5}')
    peer.consume(1)
    assert peer.handled() == [{"topic": "sensors/salle été/temp", "payload": b'{"temp":21.5}'}]


@pytest.mark.parametrize("properties", ["public", "protected", "private"])
def test_php_consumes_its_own_whatever_the_properties(make_php_peer, properties):
    peer = make_php_peer(env={"MESSAGE_PROPERTIES": properties})
    peer.dispatch("a", bytes(range(256)))
    peer.consume(1)
    assert peer.handled() == [{"topic": "a", "payload": bytes(range(256))}]


def test_php_shows_retries_and_removes_a_row_of_ours(php_peer, database):
    php_peer.dispatch("a", "1")
    php_peer.dispatch("b", "2")
    php_peer.consume(2, env={"RETRY_MAX": "0", "HANDLER_FAILS": "1"})
    first, second = database.failures()
    assert first["queue_name"] == "failed" and json.loads(first["headers"]) == []
    shown = php_peer.run("messenger:failed:show").stdout
    assert "the handler fails on a" in shown and "MqttMessage" in shown
    php_peer.run("messenger:failed:retry", first["id"], "--force")
    assert php_peer.handled() == [{"topic": "a", "payload": b"1"}]
    php_peer.run("messenger:failed:remove", second["id"], "--force")
    assert database.failures() == []


def test_php_retries_through_the_delayed_set(php_peer, redis):
    php_peer.dispatch("a", "1")
    php_peer.consume(1, env={"RETRY_DELAY": "60000", "HANDLER_FAILS": "1"})
    assert redis.client.zcard("messages__queue") == 1 and redis.client.xlen("messages") == 0


def test_a_consumer_in_the_background_ends_on_sigterm(php_peer, redis):
    consumer = php_peer.start_consumer()
    php_peer.dispatch("a", "1")
    wait_until(lambda: php_peer.handled() and redis.is_drained(), 15, lambda: consumer.log_tail())
    assert consumer.stop() == 0
