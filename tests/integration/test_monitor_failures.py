"""The monitor's list of failed messages, which the page shows."""

import http.client

import pytest
from bridge import wait_until
from bridge.failures import add_rows, json_row, php_row
from bridge.monitor import request, start_monitor

PATIENCE = 30.0


@pytest.fixture
def bridge(make_bridge, redis, hub, database):
    return make_bridge(redis=redis, hub=hub, database=database)


def read(bridge, headers=None):
    """The list of failures once the monitor has read it; until then it answers 202."""
    answers = []

    def there():
        answers.append(request(bridge, "/failures", headers=headers))
        return answers[-1].status == 200
    wait_until(there, PATIENCE, lambda: f"a list: {answers[-1].status} {answers[-1].text}")
    assert all(answer.status == 202 and answer.json == {"messages": None} and answer.headers["Retry-After"] == "1"
               for answer in answers[:-1])
    return answers[-1].json


def test_failures_lists_the_newest_without_their_payloads(bridge, database):
    add_rows(database, [php_row("a/old", "secret payload"), json_row("a/\u00e9", "2", error="no\x1b\u009b <b>")])
    start_monitor(bridge)
    document = read(bridge)
    new, old = document["messages"]
    assert old == {"id": "1", "topic": "a/old", "class": "App\\Message\\MqttMessage", "error": "The hub answered 503",
                   "failedAt": "2026-11-24T10:00:00.000000Z", "taken": False}
    assert new["topic"] == "a/\u00e9" and "\x1b" not in new["error"] and "\u009b" not in new["error"]
    assert document["more"] is False


def test_failures_lists_at_most_100_and_does_not_read_large_ones(bridge, database):
    add_rows(database, [php_row(f"t/{number}", "1") for number in range(101)])
    add_rows(database, [php_row("large", "x" * 300000), ("garbage", "[]")])
    start_monitor(bridge)
    document = read(bridge)
    assert len(document["messages"]) == 100 and document["more"] is True
    garbage, large = document["messages"][:2]
    assert garbage["topic"] is None and garbage["error"] != ""
    assert large["topic"] is None and "failed show" in large["error"]


def test_the_list_of_failures_is_refreshed_while_it_is_requested(bridge, database):
    start_monitor(bridge)
    assert read(bridge)["messages"] == []
    add_rows(database, [php_row("a", "1")])
    wait_until(lambda: request(bridge, "/failures").json["messages"], PATIENCE, "the new one is shown")


def test_a_database_that_is_away_is_in_the_error(bridge):
    bridge.settings["failure"]["dsn"] = "postgresql://app:secret@127.0.0.1:1/app"
    start_monitor(bridge)
    error = read(bridge)["error"]
    assert "127.0.0.1:1" in error and "secret" not in error


def test_a_table_that_does_not_answer_keeps_no_other_answer_back(bridge, database):
    add_rows(database, [php_row("a", "1")])
    start_monitor(bridge)
    read(bridge)
    lock = database.server.connect(database.name)
    lock.autocommit = False
    lock.cursor().execute("LOCK TABLE messenger_messages IN ACCESS EXCLUSIVE MODE")
    try:
        wait_until(lambda: request(bridge, "/failures") and database.query(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%ORDER BY id DESC%%'"),
            PATIENCE, "the list waits for the lock")
        for path in ("/failures", "/status", "/healthz", "/metrics"):
            connection = http.client.HTTPConnection("127.0.0.1", bridge.http_port, timeout=5)  # a statement has 10 s
            connection.request("GET", path)
            assert connection.getresponse().status in (200, 202), path
            connection.close()
    finally:
        lock.rollback()
        lock.close()


def test_failures_needs_the_token(bridge, folder):
    (folder / "token").write_text("s3cret\n")
    bridge.settings["http"]["token_file"] = folder / "token"
    headers = {"Authorization": "Bearer s3cret"}
    start_monitor(bridge, headers=headers)
    assert request(bridge, "/failures").status == 401
    assert read(bridge, headers)["messages"] == []
