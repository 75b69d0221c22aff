"""What the page shows when it opens: last values that Redis keeps, and what the hub's history has of the time before."""

import json
import re
import time

import pytest
from bridge import wait_until
from bridge.nginx import PathProxy
from page import Page

# A group runs one by one: it starts one browser.
pytestmark = [pytest.mark.own_core, pytest.mark.xdist_group("browser")]

HASH = "{messages}__latest"


def keep(page, redis, values, **options):
    """As workers keep what was published: topic to the JSON text of its payload."""
    redis.client.hset(HASH, mapping={topic: page.document(topic, payload, **options) for topic, payload in values.items()})


@pytest.fixture
def opened(make_page, redis):
    """opened(values): the page on a bridge that has kept them."""
    def open_page(values, hub=None, fragment="", **settings):
        page = make_page(redis=redis, settings=settings, **({"hub": hub} if hub else {}))
        keep(page, redis, values)
        return page.open(fragment)
    return open_page


def ago(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - seconds))


def test_the_page_opens_on_a_full_table_while_nothing_is_published(opened, redis):
    page = opened({f"plant/{line}/{name}": str(line) for line in range(1, 4) for name in ("temp", "mode", "rate")})
    page.wait_text("#counts", "9 topics")
    page.wait_value("plant/2/mode", "2")
    value, rate, age, count = page.rows()["plant/3/temp"]
    assert (value, rate, count) == ("3", "–", "0"), "nothing of it has come since"
    assert re.fullmatch(r"now|\d+ s", age)
    assert page.errors() == []


def test_values_of_every_kind_are_kept_as_they_were_sent(opened, redis):
    page = opened({"number": "21.50", "text": '"été"', "json": '{"a": 1.0,"b":[1, 2.50]}', "null": "null", "list": '[{"payload":"]"},1.0]'})
    keep(page, redis, {"bytes": '"AP+A"'}, encoding="base64")
    redis.client.hset(HASH, "long", page.document("long", "0").replace('"payload":0', '"bytes":34567'))
    page.browser.refresh()
    page.wait_value("number", "21.50")
    found = {topic: cells[0] for topic, cells in page.rows().items()}
    assert found == {"number": "21.50", "text": "été", "json": '{"a": 1.0,"b":[1, 2.50]}', "null": "null",
                     "list": '[{"payload":"]"},1.0]', "bytes": "3 bytes  00 ff 80", "long": "34,567 bytes, too long to be kept"}
    page.click_row("long")
    page.wait_text("#detail-value", "too long to be kept")


def test_live_updates_beside_last_values_are_neither_missed_nor_doubled(opened, redis, hub):
    page = opened({"a": "1", "b": "1"})
    page.wait_value("a", "1")
    kept = page.document("a", "2")
    redis.client.hset(HASH, "a", kept)
    # The same over the hub, then an older one of another topic, then a newer one.
    page.publish("a", "2", number=json.loads(kept)["id"].split("-")[1], received_at=json.loads(kept)["receivedAt"])
    page.wait_value("a", "2")
    page.publish("b", "0", number=0)
    page.publish("a", "3")
    page.wait_value("a", "3")
    assert page.value("b") == "1"
    assert page.rows()["a"][3] == "2"


def test_a_value_published_just_before_the_page_listens_is_not_missed(make_page, make_hub, redis):
    """Workers write a last value just after the hub has it: the page loads again once its own connection stands."""
    hub = make_hub()
    page = make_page(hub=hub, redis=redis)
    keep(page, redis, {"a": "1"})
    hub.freeze()
    page.show()
    page.wait_value("a", "1")
    page.wait_text("#hub-state", "connecting")
    keep(page, redis, {"a": "2"})
    hub.thaw()
    page.wait_value("a", "2")
    assert page.rows()["a"][3] == "0"


HOLD_LONG_TIMERS = """
    const { setTimeout } = window;
    window.held = [];
    window.setTimeout = (run, ms, ...rest) => (ms >= 5000 ? -window.held.push(run) : setTimeout(run, ms, ...rest));"""


def test_a_value_kept_long_after_the_page_listens_is_not_missed(browser, make_page, redis):
    """The hub's answer to the worker took seconds, and the topic is silent since. The test says when they are over."""
    page = make_page(redis=redis)
    keep(page, redis, {"a": "1"})
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HOLD_LONG_TIMERS})
    try:
        page.open()
        count = "return performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/latest')).length"
        wait_until(lambda: browser.execute_script(count) == 2, 10, "loaded at the start, and as the connection stands")
        page.wait_value("a", "1")
        keep(page, redis, {"a": "2"})
        browser.execute_script("for (const run of window.held.splice(0)) { run(); }")
        page.wait_value("a", "2")
        assert page.rows()["a"][3] == "0" and page.errors() == []
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_after_a_break_the_page_has_what_was_published_meanwhile(make_page, make_hub, redis):
    hub = make_hub()  # without a history
    page = make_page(hub=hub, redis=redis)
    keep(page, redis, {"a": "1"})
    page.open()
    page.wait_value("a", "1")
    hub.stop()
    page.wait_text("#hub-state", "lost")
    keep(page, redis, {"a": "2", "b": "1"})
    hub.start()
    page.wait_text("#hub-state", "live", 20)
    page.wait_value("a", "2")
    page.wait_value("b", "1")


def test_the_hubs_history_fills_the_chart(make_page, make_hub, redis):
    hub = make_hub(history=1000)
    page = make_page(hub=hub, redis=redis)
    for number in range(40):
        last = page.publish("room", str(number), received_at=ago(400 - number))
    page.publish("only/in/history", "1", received_at=ago(300))
    redis.client.hset(HASH, "room", last)
    page.open("#room")
    page.wait_text("#detail-topic", "room")
    wait_until(lambda: page.browser.execute_script("return document.querySelectorAll('#detail-chart canvas').length") > 0,
               20, "the chart")
    page.wait_text("#detail-facts", "0 since")
    page.wait_value("only/in/history", "1")
    page.publish("room", "99")
    page.wait_value("room", "99")
    assert page.rows()["room"][3] == "1", "what was before does not count"
    assert page.errors() == []


def read_past(page, events, end):
    """What HubStream.readPast makes of them: [kind, of each update]. end: what comes behind."""
    return page.module("/stream.js", """
        const [events, end] = args;
        const { EventSource } = window;
        let url = "";
        let closed = false;
        window.EventSource = class extends EventTarget {
          constructor(address) {
            super();
            url = String(address);
            setTimeout(() => {
              this.onopen(new Event("open"));
              events.forEach((data) => closed || this.dispatchEvent(new MessageEvent("message", { data })));
              if (end === "error" && !closed) { this.onerror(new Event("error")); }
            });
          }
          close() { closed = true; }
        };
        const stream = new m.HubStream({ hub: "/hub", topics: ["*"], types: [], private: false, private_routes: false });
        return stream.readPast((data) => (data === "present" ? null : data)).then((found) => {
          window.EventSource = EventSource;
          return { found: found.length, closed, url: url.split("?")[1] };
        });""", events, end)


def test_the_history_ends_where_the_present_begins_or_nothing_more_comes(make_page):
    page = make_page().show("config.json")  # here nothing else connects
    past = ["past"] * 30
    assert read_past(page, past, "quiet") == {"found": 30, "closed": True, "url": "topic=*&lastEventID=earliest"}
    assert read_past(page, [*past, "present", *past], "quiet")["found"] == 30
    assert read_past(page, [], "quiet") == read_past(page, ["present"], "quiet") \
        == {"found": 0, "closed": True, "url": "topic=*&lastEventID=earliest"}


def test_of_a_history_longer_than_the_hub_sends_nothing_is_shown(make_page):
    """The hub sends the oldest part of such a history, and a gap follows it."""
    page = make_page().show("config.json")
    assert read_past(page, ["past"] * 1000, "error")["found"] == 0
    assert read_past(page, ["past"] * 5001, "quiet")["found"] == 0


def test_single_latest_and_batch_updates_show_each_message(browser, make_bridge, hub, redis, mosquitto, database, publisher):
    bridge = make_bridge(hub=hub, redis=redis, mosquitto=mosquitto, database=database)
    bridge.settings |= {"route:b": {"match": "batch/#", "publish": "batch", "window": "100ms", "batch_topic": "batches"},
                        "route:l": {"match": "latest/#", "publish": "latest", "window": "100ms"}}
    bridge.start()
    page = Page(browser, bridge, hub).open()
    page.wait_ready(20)
    publisher.publish_all([(f"batch/{number % 10}", f"{number}.50") for number in range(500)])
    for kind in ("single", "latest"):
        publisher.publish_all([(f"{kind}/a", str(number)) for number in range(100)])
    wait_until(lambda: all(page.rows().get(f"batch/{number}", [0] * 4)[::3] == (f"49{number}.50", "50") for number in range(10)),
               20, lambda: f"each message of the batches: {page.rows()}")
    page.wait_value("single/a", "99")
    page.wait_value("latest/a", "99")
    # Two workers publish: the newest may come before others.
    wait_until(lambda: page.rows()["single/a"][3] == "100", 10, lambda: f"each single message: {page.rows()['single/a']}")
    assert int(page.rows()["latest/a"][3]) < 100
    page.browser.refresh()  # and nothing is published now
    wait_until(lambda: {topic: cells[0] for topic, cells in page.rows().items()} == {
        **{f"batch/{number}": f"49{number}.50" for number in range(10)}, "single/a": "99", "latest/a": "99"}, 20,
        lambda: f"the last values: {page.rows()}")
    assert page.errors() == []


def test_with_a_token_and_under_a_path_the_page_has_last_values(make_page, makers, redis, folder):
    (folder / "token").write_text("s3cret\n")
    page = make_page(redis=redis, settings={"http": {"token_file": folder / "token"}})
    keep(page, redis, {"a/b": "1"})
    page.url = makers.keep(PathProxy(folder, "/iot/bridge/", page.url)).start().url
    page.show()
    page.wait_text("#bridge-state", "needs a token")
    page.browser.execute_script("document.querySelector('#token').value = 's3cret'")
    page.click("#token-form button")
    page.wait_value("a/b", "1")
    page.errors()  # reads away that the first request was refused


def test_without_last_values_the_page_goes_on_with_a_notice(make_page, redis, hub):
    page = make_page(redis=redis)
    redis.client.set(HASH, "no hash")
    page.open()
    page.wait_text("#notices", "Last values")
    page.publish("a", "1")
    page.wait_value("a", "1")
    redis.client.delete(HASH)
    keep(page, redis, {"b": "2"})
    page.wait_value("b", "2", 20)
    wait_until(lambda: "Last values" not in (page.text("#notices") or ""), 10, "the notice is gone")
    page.errors()
    page = make_page(redis=redis, settings={"page": {"last_values": 0}}).open()
    page.wait_text("#empty", "No last values are kept")
    page.publish("c", "1")
    page.wait_value("c", "1")
    assert "Last values" not in (page.text("#notices") or "") and page.errors() == []


def test_missing_last_values_raise_no_alarm_on_the_page(browser, bridge, hub, redis):
    """The hash is absent, or its key is no hash: the bridge is ready, and nothing on the page is red."""
    bridge.start()
    page = Page(browser, bridge, hub).open()
    page.wait_ready(20)
    assert page.text("#notices") in (None, "") and page.alarms() == []
    assert redis.client.exists(HASH) == 0
    redis.client.set(HASH, "no hash")
    page.browser.refresh()
    page.wait_text("#notices", "Last values")
    page.wait_ready(20)
    assert page.alarms() == [] and "Last values" in page.text("#notices")
    errors = page.errors()
    assert errors and all("latest" in error for error in errors)


COUNT_ADDED = """
    const done = arguments[0];
    import("/store.js").then(({ TopicStore: { prototype } }) => {
      const { addPast } = prototype;
      let added = 0;
      window.most = 0; /* between two frames' chances */
      prototype.addPast = function (...message) {
        if (added === 0) { setTimeout(() => { added = 0; }); }
        added += 1;
        window.most = Math.max(window.most, added);
        return addPast.apply(this, message);
      };
    }).then(() => done());"""


def test_five_thousand_topics_load_without_stutter(make_page, make_hub, redis):
    hub = make_hub()
    page = make_page(hub=hub, redis=redis).open()
    page.browser.execute_async_script(COUNT_ADDED)
    hub.stop()
    page.wait_text("#hub-state", "lost")
    keep(page, redis, {f"site/{number // 100:02d}/device/{number:04d}/temp": str(number) for number in range(5000)})
    hub.start()
    page.wait_text("#counts", "5,000 topics", 30)
    row_count = "return Number(document.querySelector('#scroll').getAttribute('aria-rowcount'))"
    wait_until(lambda: page.browser.execute_script(row_count) >= 5000, 30, "a row for each topic")
    page.search("site/49/device/4999/temp")
    page.wait_value("site/49/device/4999/temp", "4999", 20)
    assert 0 < page.browser.execute_script("return window.most") <= 250
    assert page.browser.execute_script("return document.querySelectorAll('.rows .row').length") < 100
