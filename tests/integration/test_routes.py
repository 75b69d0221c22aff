"""[route:NAME]: what the worker publishes of some topics, and what `mqtt-bridge route` says of it."""

import json

from bridge.entries import add_many

ROUTES = {
    "route:secret": {"match": "plant/+/secret, private/#", "drop": "yes"},
    "route:temps": {"match": "plant/+/temp", "topic": "temps/{1}", "alternates": "all plants/{level:2}",
                    "data": "field:t", "type": "temp"},
}


def data_of(events):
    return [event.data for event in events]


def test_each_route_publishes_as_it_says(bridge, redis, make_sse, database):
    bridge.settings.update(ROUTES)
    alternates = make_sse("plants/press")
    temps = make_sse("temps/press")
    everything = make_sse("*")
    bridge.run_program("worker")
    add_many(redis, [("plant/press/secret", "no"), ("plant/press/temp", '{"t":"21.5"}'), ("other", "1"),
                     ("private", "no"), ("plant/press/temp", '{"t":22}')])
    redis.wait_drained(15)
    temps.wait_count(2)
    assert data_of(temps.events) == data_of(alternates.wait_count(2)) == ["21.5", "22"]
    assert {event.type for event in temps.events} == {"temp"}
    assert sorted(event.type for event in everything.wait_count(3)) == ["message", "temp", "temp"]
    assert database.failures() == []


def test_a_payload_that_a_route_can_not_publish_goes_aside(bridge, redis, make_sse, database):
    bridge.settings.update(ROUTES)
    everything = make_sse("*")
    bridge.run_program("worker")
    add_many(redis, [("plant/press/temp", "21"), ("plant/press/temp", '{"t":1}')])
    assert everything.wait_count(1)[0].data == "1"
    redis.wait_drained(15)
    [row] = database.failures()
    assert 'the payload is no JSON object with a field' in row["body"]


def test_route_says_what_would_be_published(bridge):
    bridge.settings.update(ROUTES)
    answer = json.loads(bridge.cli("route", "plant/press/temp", '{"t":"21.5"}', "--json").stdout)
    assert (answer["route"], answer["filter"], answer["dropped"]) == ("temps", "plant/+/temp", False)
    [update] = answer["updates"]
    assert update["topic"] == "temps/press" and update["alternates"] == ["all", "plants/press"]
    assert update["data"] == "21.5" and update["type"] == "temp" and update["private"] is False
    text = bridge.cli("route", "plant/press/temp", '{"t":"21.5"}').stdout
    assert "plant/press/temp: [route:temps], by its filter plant/+/temp\n" in text and "temps/press" in text
    assert "dropped" in bridge.cli("route", "private/x").stdout
    assert "[mercure], for no route takes it" in bridge.cli("route", "other").stdout
    assert "refused" in bridge.cli("route", "plant/press/temp", "21").stdout


def test_route_as_json_has_the_publish_mode_window_and_command(bridge):
    bridge.settings |= {
        "route:latest": {"match": "latest/#", "publish": "latest", "window": "2s"},
        "route:batch": {"match": "batch/#", "publish": "batch"},
        "route:drop": {"match": "drop/#", "drop": "yes", "publish": "latest"},
        "route:mask": {"match": "mask/#", "handler": "mask"},
        "handler:mask": {"command": "cat -n 'a b'"}}

    def answer(topic):
        found = json.loads(bridge.cli("route", topic, "1", "--json").stdout)
        return [found[key] for key in ("publish", "window", "handler", "command")]
    assert answer("latest/a") == ["latest", "2s", None, None]
    assert answer("batch/a") == ["batch", "500ms", None, None]
    assert answer("drop/a") == ["latest", None, None, None]
    assert answer("mask/a") == ["each", None, "mask", "cat -n 'a b'"]
    assert answer("other") == ["each", None, None, None]


def test_route_refuses_a_topic_that_is_none(bridge):
    result = bridge.cli("route", "plant/#", check=False)
    assert result.returncode == 2 and 'the MQTT topic "plant/#" holds a wildcard' in result.stderr


def test_check_names_a_route_that_takes_nothing(bridge):
    bridge.settings.update({"route:all": {"match": "plant/#"}, "route:late": {"match": "plant/+/temp"}})
    result = bridge.cli("check")
    assert "[route:late] match: `plant/+/temp` takes nothing: `plant/#` of [route:all]" in result.stdout + result.stderr
