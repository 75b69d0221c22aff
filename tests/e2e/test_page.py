"""The live page in Chromium, on a real hub and a real monitor."""

import json
import time

import pytest
from bridge import wait_until
from bridge.failures import add_rows, json_row
from bridge.hub import jwt
from bridge.nginx import PathProxy
from page import Page

# A group runs one by one: it starts one browser.
pytestmark = [pytest.mark.own_core, pytest.mark.xdist_group("browser")]

TYPES = {"route:a": {"match": "plant/#", "type": "temp"}, "route:b": {"match": "b/#", "type": "error"},
         "route:c": {"match": "c/#", "type": "open"}, "route:d": {"match": "d/#", "type": "temp"}}
OTHER = "ffeeddccbbaa99887766554433221100"


def test_values_appear_as_they_arrive(page):
    page.wait_text("#empty", "Waiting")
    page.publish("home/bath/temp", "21.50")
    page.wait_value("home/bath/temp", "21.50")
    page.publish("home/bath/temp", "22.0")
    page.wait_value("home/bath/temp", "22.0")
    page.publish("home/bath/état 1", '"ouvert  é"')
    page.wait_value("home/bath/état 1", "ouvert é")
    assert page.rows()["home/bath/temp"][3] == "2"


def test_updates_with_the_type_of_a_route_are_shown(make_page):
    page = make_page(settings=TYPES).open()
    for number in (1, 2):
        page.publish("plant/a", f"{number}.5", {"type": "temp"})
        page.wait_value("plant/a", f"{number}.5")
    # Events of an EventSource's own have these names as well.
    page.publish("b/a", "1", {"type": "error"})
    page.publish("c/a", "1", {"type": "open"})
    page.publish("e", "1")
    for topic in ("b/a", "c/a", "e"):
        page.wait_value(topic, "1")
    assert page.rows()["plant/a"][3] == "2"
    assert page.text("#hub-state").endswith("live") and page.errors() == []


def test_updates_with_a_type_that_the_hub_has_kept_are_shown(make_page, make_hub):
    hub = make_hub(history=1000)
    page = make_page(hub=hub, settings=TYPES)
    page.publish("plant/a", "1", {"type": "temp"})
    page.publish("b/a", "2", {"type": "error"})
    page.open()
    page.wait_value("plant/a", "1")
    page.wait_value("b/a", "2")


PRIVATE = {"route:p": {"match": "private/#", "private": "yes"}}


def test_private_updates_of_a_route_come_with_the_readers_cookie(make_page, make_hub):
    hub = make_hub()
    page = make_page(hub=hub, settings=PRIVATE).show("config.json")
    hub.stop()
    make_hub(port=hub.port, directives=f"cors_origins {page.url.rstrip('/')}")
    page.browser.add_cookie({"name": "mercureAuthorization", "value": jwt(hub.subscriber_key)})
    page.errors()  # reads away that this one had no icon
    page.open()
    page.publish("private/a", "1", {"private": "on"})
    page.wait_value("private/a", "1")
    page.publish("shown", "2")
    page.wait_value("shown", "2")
    page.wait_text("#notices", "Some routes have them. The hub sends them only to subscribers with a token")
    assert page.errors() == []


def test_a_hub_that_refuses_cookies_still_sends_what_is_public(make_page, hub):
    """Its cors_origins is `*`, which browsers do not take for a connection with a cookie."""
    page = make_page(settings=PRIVATE).open()
    page.wait_text("#notices", f"the hub's cors_origins must name {page.url.rstrip('/')}")
    page.publish("shown", "1")
    page.wait_value("shown", "1")
    page.errors()  # reads away that the first connection was refused


def test_repeats_and_older_values_change_nothing(page):
    page.publish("t", "1", number=5)
    page.publish("t", "2", number=6)
    page.publish("t", "1", number=5)
    page.publish("t", "0", number=4)
    page.publish("t", "9", number=999, spool=OTHER, received_at="2020-01-01T00:00:00.000000Z")
    page.publish("end", "1", number=7)
    page.wait_value("end", "1")
    assert page.value("t") == "2"
    assert page.rows()["t"][3] == "4", "the repeat is not counted, the late ones are"


def test_binary_empty_and_large_payloads_are_shown(page):
    page.publish("bytes", '"AP+A"', encoding="base64")
    page.publish("empty", '""')
    page.publish("large", json.dumps("x" * 1000000))
    page.wait_value("bytes", "3 bytes  00 ff 80")
    page.wait_value("empty", "empty")
    page.publish("utf8", json.dumps("\x00\x01é"))
    page.wait_value("utf8", "4 bytes  00 01 c3 a9")
    page.publish("control", json.dumps("a\x01\x1bb\n c"))
    page.wait_value("control", "a\\x01\\x1bb c")
    page.click_row("control")
    page.wait_text("#detail-value", "a\\x01\\x1bb\n c")
    page.wait_text("#detail-history", "a\\x01\\x1bb c")
    page.click_row("utf8")
    page.wait_text("#detail-value", "0000  00 01 c3 a9")
    page.wait_text("#detail-history", "4 bytes")
    wait_until(lambda: (page.value("large") or "").startswith("xxx"), 10, "the large value")


def test_a_payload_is_never_taken_for_markup(page):
    nasty = '<img src=x onerror="document.title=1">'
    page.publish(nasty, json.dumps(nasty))
    page.wait_value(nasty, nasty)
    page.click_row(nasty)
    page.wait_text("#detail-value", nasty)
    assert page.browser.title == "mqtt-bridge"
    assert page.browser.execute_script("return document.querySelectorAll('main img').length") == 0


def test_the_age_follows_the_time_of_receipt(page):
    past = time.time() - 150
    page.publish("old", "1", received_at=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(past)) + ".000000Z")
    wait_until(lambda: page.rows().get("old", [""] * 4)[2] == "2 min", 10, lambda: f"two minutes: {page.rows()}")


def test_the_hub_may_go_and_come_back_without_a_gap(make_page, make_hub):
    hub = make_hub(history=1000)
    page = make_page(hub=hub).open()
    page.publish("t", "1")
    page.wait_value("t", "1")
    hub.stop()
    page.wait_text("#hub-state", "lost")
    page.wait_text("#notices", hub.url)
    # Missed by the page's first connection, kept by the hub: Last-Event-ID brings it.
    hub.start()
    page.publish("missed", "2")
    page.wait_text("#hub-state", "live", 20)
    page.wait_value("missed", "2")
    page.publish("t", "3")
    page.wait_value("t", "3")
    assert page.rows()["t"][3] == "2"


def test_where_the_browser_gives_up_the_page_connects_anew_without_a_gap(make_page, make_hub):
    hub = make_hub(history=1000)
    page = make_page(hub=hub).open()
    page.publish("t", "1")
    page.wait_value("t", "1")
    hub.stop()
    page.browser.execute_script("""
        window.attempts = 0;
        new MutationObserver(() => {
          window.attempts += document.querySelector("#hub-state").innerText.includes("connecting") ? 1 : 0;
        }).observe(document.querySelector("#hub-state"), { childList: true, characterData: true, subtree: true });""")
    # An answer that is no stream, as this 401, ends an EventSource for good.
    strict = make_hub(anonymous=False, port=hub.port)
    wait_until(lambda: page.browser.execute_script("return window.attempts") >= 2, 30, "the page asks again by itself")
    strict.stop()
    hub.start()
    page.publish("missed", "2")
    page.wait_text("#hub-state", "live", 30)
    page.wait_value("missed", "2")


def test_pages_that_were_left_hold_no_connection_to_the_hub(page):
    """A browser allows six connections to a host, and keeps the last pages for its back button."""
    for number in range(8):
        page.browser.get("about:blank")
        page.open()
    page.publish("t", "1")
    page.wait_value("t", "1")
    page.browser.get("about:blank")
    page.browser.back()
    page.wait_text("#hub-state", "live")
    page.publish("t", "2")
    page.wait_value("t", "2")


def test_pause_holds_the_display_and_resume_shows_the_newest(page):
    page.publish("a", "1")
    page.wait_value("a", "1")
    page.click("#pause")
    page.publish("a", "2")
    page.publish("b", "1")
    page.wait_text("#counts", "2 new")
    assert page.value("a") == "1" and page.value("b") is None
    page.click("#layout-list")
    assert page.value("a") == "1" and page.value("b") is None
    page.click("#pause")
    page.wait_value("a", "2")
    page.wait_value("b", "1")


def test_search_narrows_and_escape_widens(page):
    for topic in ("home/bath/temp", "home/attic/temp", "home/attic/light", "plant/line"):
        page.publish(topic, "1")
    wait_until(lambda: len(page.rows()) == 4, 10, "four topics")
    page.search("temp")
    wait_until(lambda: set(page.rows()) == {"home/bath/temp", "home/attic/temp"}, 15, lambda: page.rows())
    page.search("home/+/light")
    wait_until(lambda: set(page.rows()) == {"home/attic/light"}, 15, lambda: page.rows())
    page.search("nowhere")
    page.wait_text("#empty", "No topic matches")
    page.browser.execute_script("document.querySelector('#search').focus()")
    page.press("\ue00c")
    wait_until(lambda: len(page.rows()) == 4, 15, "all topics again")


def test_levels_fold_and_unfold(page):
    for topic in ("home/bath/temp", "home/bath/light", "home/attic", "plant/a", "plant/b"):
        page.publish(topic, "1")
    wait_until(lambda: len(page.rows()) == 5, 10, "five topics")
    assert page.groups() == ["home", "bath", "plant"]
    page.click_row("home")
    wait_until(lambda: set(page.rows()) == {"plant/a", "plant/b"}, 15, lambda: page.rows())
    page.wait_text("#fold", "Unfold all")
    page.click_row("home")
    wait_until(lambda: page.text("#fold") == "Fold all", 15, lambda: page.text("#fold"))
    wait_until(lambda: len(page.rows()) == 5, 15, "unfolded")
    page.click("#fold")
    wait_until(lambda: page.rows() == {}, 15, "all folded")
    page.publish("plant/a", "2")
    page.click("#fold")
    page.wait_value("plant/a", "2")


def test_a_topic_opens_with_its_value_history_and_chart(page):
    for number in range(12):
        page.publish("room", f'{{"temp":{20 + number}.50,"deep":{{"volts":3.1}},"name":"x"}}')
    wait_until(lambda: page.rows().get("room", [""] * 4)[3] == "12", 10, "twelve messages")
    page.click_row("room")
    page.wait_text("#detail-topic", "room")
    assert '"temp": 31.50' in page.wait_text("#detail-value", "volts")
    page.wait_text("#detail-facts", "12 since")
    wait_until(lambda: page.browser.execute_script("return document.querySelectorAll('#detail-chart canvas').length") > 0,
               10, "the chart")
    assert page.text("#detail-fields").split() == ["temp", "deep.volts"]
    assert page.browser.execute_script("return document.querySelectorAll('#detail-history li').length") == 12
    assert page.browser.current_url.endswith("#room")
    page.publish("room", "5")
    page.wait_text("#detail-value", "5")
    page.press("\ue00c")
    wait_until(lambda: page.browser.execute_script("return document.querySelector('#detail').hidden"), 15, "closed")


def test_a_link_to_a_topic_opens_it_when_it_comes(page):
    page.open("#sensors%2Fsalle%20%C3%A9t%C3%A9")
    page.browser.refresh()
    page.wait_text("#hub-state", "live")
    page.publish("other", "1")
    page.publish("sensors/salle été", "21")
    page.wait_text("#detail-topic", "sensors/salle été")


def test_the_theme_is_kept_over_a_reload(page):
    theme = "return document.documentElement.dataset.theme"
    before = page.browser.execute_script(theme)
    page.press("d")
    after = page.browser.execute_script(theme)
    assert {before, after} == {"dark", "light"}
    page.browser.refresh()
    wait_until(lambda: page.browser.execute_script(theme) == after, 15, "the same theme")


def test_arrow_keys_walk_through_the_topics(page):
    for topic in ("a/1", "a/2", "b/1"):
        page.publish(topic, f'"{topic}"')
    wait_until(lambda: len(page.rows()) == 3, 10, "three topics")
    for wanted in ("a/1", "a/2", "b/1"):
        page.press("\ue015")
        page.wait_text("#detail-topic", wanted)
    page.press("\ue013")
    page.wait_text("#detail-topic", "a/2")


def test_fields_named_like_an_objects_own_get_a_chart(page):
    for value in range(3):
        page.publish("odd/fields", f'{{"constructor":{value},"__proto__":{value},"time":{value}}}')
    page.wait_value("odd/fields", '{"constructor":2,"__proto__":2,"time":2}')
    page.click_row("odd/fields")
    page.wait_text("#detail-fields", "__proto__")
    assert page.text("#detail-fields").split() == ["constructor", "__proto__", "time"]
    assert page.browser.execute_script("return document.querySelectorAll('#detail-chart canvas').length") > 0


def test_a_topic_of_32_kilobytes_is_cut_where_it_would_fill_the_page(page):
    topic = "long/" + "x" * 32000
    page.publish(topic, "1")
    page.publish("short", "2")
    page.wait_value("short", "2")
    shown = wait_until(lambda: [path for path in page.rows() if path.startswith("long/")], 10, "the long topic")
    assert len(shown) == 1 and len(shown[0]) == 2001
    page.click_row(shown[0])
    page.wait_text("#detail-topic", "long/xxx")
    assert len(page.text("#detail-topic")) == len(topic)
    assert page.browser.execute_script("return document.querySelector('.detail h2').clientHeight") < 200


def test_a_deep_tree_of_topics_leaves_the_page_alive(page, hub):
    documents = [page.document("a" + "/a" * depth, str(depth)) for depth in range(3000)]
    for start in range(0, len(documents), 20):
        assert hub.publish("batch", f"[{','.join(documents[start:start + 20])}]")[0] == 200
    page.wait_text("#counts", "3,000 topics", 30)
    page.publish("a", '"last"')
    page.wait_value("a", "last", 30)


def test_without_storage_the_page_works_and_keeps_choices_until_a_reload(page, browser):
    refuse = """for (const name of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } }); }"""
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": refuse})
    try:
        page.browser.get("about:blank")
        page.open()
        page.publish("a/b", "1")
        page.wait_value("a/b", "1")
        theme = page.browser.execute_script("return document.documentElement.dataset.theme")
        page.click("#theme")
        assert page.browser.execute_script("return document.documentElement.dataset.theme") != theme
        page.wait_text("#bridge-state", "not ready")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script["identifier"]})
        page.open()


def test_behind_a_reverse_proxy_the_page_works_under_a_path(make_page, makers, folder):
    page = make_page()
    proxy = makers.keep(PathProxy(folder, "/iot/bridge/", page.url)).start()
    page.url = proxy.url
    page.open()
    for value in range(3):
        page.publish("a/b", str(value))
    page.wait_value("a/b", "2")
    page.wait_text("#bridge-state", "not ready")
    page.click_row("a/b")
    wait_until(lambda: page.browser.execute_script("return document.querySelectorAll('#detail-chart canvas').length") > 0,
               10, "the chart's library comes through the proxy")
    assert page.errors() == []


def test_bare_payloads_are_explained(make_page, hub):
    page = make_page(settings={"mercure": {"data": "payload"}}).open()
    assert hub.publish("t", "21.5", id="urn:mqtt-bridge:x")[0] == 200
    page.wait_text("#notices", "data = message")


def test_updates_of_others_give_a_notice_and_are_not_shown(page, hub):
    assert hub.publish("t", '{"hello":1}')[0] == 200
    page.wait_text("#notices", "none of this bridge's")
    page.publish("ours", "1")
    page.wait_value("ours", "1")
    assert list(page.rows()) == ["ours"]


def test_the_state_of_the_bridge_is_shown_with_its_reasons(page):
    page.wait_text("#bridge-state", "not ready")
    page.wait_text("#notices", "no worker is running")
    assert any("no worker is running" in text for text in page.alarms())
    page.bridge.processes[-1].stop()
    page.wait_text("#bridge-state", "unreachable")
    page.publish("t", "1")
    page.wait_value("t", "1")
    page.bridge.run_program("monitor", name="monitor-again")
    page.wait_text("#bridge-state", "not ready", 20)
    page.errors()  # reads the refused requests away: they are in the console, as they should be


def test_the_queue_is_counted(make_page, redis):
    page = make_page(redis=redis).open()
    for number in range(7):
        redis.client.xadd("messages", {"message": "x"})
    page.wait_text('[data-stage="queue"]', "7")


def test_a_token_is_asked_for_and_used(make_page, folder):
    token_file = folder / "token"
    token_file.write_text("s3cret\n")
    page = make_page(settings={"http": {"token_file": token_file}}).show()
    page.wait_text("#bridge-state", "needs a token")
    page.wait_text("#hub-state", "locked")
    page.wait_text("#empty", "come with the token")
    assert "refused" not in page.text("#token-form")
    page.publish("t", "1")
    for wrong in ("s3cre", "s\u20acret"):  # the second can't even be sent
        page.browser.execute_script("document.querySelector('#token').value = arguments[0]", wrong)
        page.click("#token-form button")
        page.wait_text("#bridge-state", "wrong token")
        page.wait_text("#token-form", "That token is refused")
    page.browser.execute_script("document.querySelector('#token').value = ' s3cret '")
    page.click("#token-form button")
    page.wait_text("#bridge-state", "not ready")
    page.wait_text("#hub-state", "live")
    page.publish("t", "2")
    page.wait_value("t", "2")
    assert page.browser.execute_script("return document.querySelector('#token-form').hidden")
    page.open()  # a reload keeps the token


def overflow(browser, width):
    """By how much the page is wider than a window of that width."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False})
    try:
        return browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_narrow_window_shows_the_whole_width_with_and_without_the_token(make_page, folder):
    token_file = folder / "token"
    token_file.write_text("s3cret\n")
    page = make_page(settings={"http": {"token_file": token_file}}).show()
    page.wait_text("#bridge-state", "needs a token")
    assert [overflow(page.browser, width) for width in (320, 360, 375, 600, 1000)] == [0] * 5
    page.browser.execute_script("document.querySelector('#token').value = 's3cret'")
    page.click("#token-form button")
    page.wait_text("#hub-state", "live")
    page.publish("a/long/topic/" + "name" * 40, json.dumps("x" * 300))
    page.wait_text("#counts", "1 topic")
    assert [overflow(page.browser, width) for width in (320, 360, 375, 600, 1000)] == [0] * 5


def test_a_token_set_during_a_request_starts_no_second_loop(make_page):
    page = make_page().show("config.json")  # here nothing else asks
    timers, states = page.module("/bridge.js", """
        const { fetch, setTimeout } = window;
        const asked = [];
        const states = [];
        let timers = 0;
        window.fetch = (path, { headers }) => new Promise((answer) => asked.push({ headers, answer }));
        window.setTimeout = () => (timers += 1);
        const bridge = new m.BridgeStatus((view) => states.push(view.state));
        bridge.poll();
        bridge.setToken("right");
        for (const { headers, answer } of asked) {
          answer(new Response("", { status: headers.Authorization === "Bearer right" ? 500 : 401 }));
        }
        return new Promise((done) => setTimeout(done, 0)).then(() => {
          Object.assign(window, { fetch, setTimeout });
          return [timers, states];
        });""")
    assert (timers, states) == (1, ["unreachable"]), "one goes on, and the older answer is not shown"


def test_an_unconfigured_stage_is_idle_and_not_an_error(browser, make_page, mosquitto, redis, database):
    def health(stage):
        return browser.execute_script("return document.querySelector(arguments[0]).dataset.health", f'[data-stage="{stage}"]')
    page = make_page(hub=None, mosquitto=mosquitto, redis=redis, settings={"worker": {"count": 0}})
    page.show()
    page.wait_text("#hub-state", "none configured")
    page.wait_text("#notices", "MERCURE_URL")
    wanted = {"workers": ("none wanted", "idle"), "hub": ("none configured", "idle"), "failed": ("none configured", "warn")}
    for stage, (note, dot) in wanted.items():
        text = page.wait_text(f'[data-stage="{stage}"]', note)
        assert "?" not in text and health(stage) == dot, stage
    page = make_page(database=database).open()
    page.wait_text('[data-stage="failed"]', "in the failure transport")
    assert health("failed") == "good"


def reload(bridge, settings):
    for section, keys in settings.items():
        bridge.settings.setdefault(section, {}).update(keys)
    bridge.write_config()
    bridge.cli("reload")  # answered when the monitor runs with the new settings


def test_types_of_routes_that_came_with_a_reload_are_shown(browser, bridge, hub, publisher):
    bridge.start()
    page = Page(browser, bridge, hub).open()
    reload(bridge, {"route:new": {"match": "new/#", "type": "new"}})
    publisher.publish("new/missed", "1")
    page.wait_value("new/missed", "1")
    for number in range(2, 4):
        publisher.publish("new/a", str(number))
        page.wait_value("new/a", str(number))
    assert page.text("#notices") in (None, "") and page.errors() == []


def test_a_page_that_a_reload_outdates_says_so(browser, bridge, hub):
    bridge.start()
    page = Page(browser, bridge, hub).open()
    reload(bridge, {"page": {"last_values": 5}})
    page.wait_text("#notices", "Load it anew")
    reload(bridge, {"page": {"last_values": 10000}})
    wait_until(lambda: "Load it anew" not in page.text("#notices"), 10, "the page has the bridge's settings again")
    reload(bridge, {"page": {"last_values": 5}})
    page.wait_text("#notices", "Load it anew")
    page.open()
    assert "Load it anew" not in page.text("#notices")


def test_a_device_message_reaches_the_page(browser, bridge, hub, publisher):
    bridge.start()
    page = Page(browser, bridge, hub).open()
    page.wait_ready(20)
    publisher.publish("sensors/salle été/temp", '{"temp": 21.50}')
    page.wait_value("sensors/salle été/temp", '{"temp": 21.50}')
    publisher.publish("sensors/raw", b"\x00\xff")
    page.wait_value("sensors/raw", "2 bytes  00 ff")
    publisher.publish_all([("counter", str(number)) for number in range(200)])
    page.wait_value("counter", "199")
    assert page.rows()["counter"][3] == "200"
    page.wait_text('[data-stage="workers"]', "2 of 2 running")
    assert page.text("#notices") in (None, "")
    assert page.errors() == []


# What a frame costs: rows filled, rates computed and levels of the tree visited since the frame before.
COUNT_WORK = """
    const done = arguments[0];
    Promise.all(["/store.js", "/table.js", "/tree.js"].map((name) => import(name))).then(([store, table, tree]) => {
      const work = { now: 0, most: 0 };
      const count = (type, name) => {
        const own = type.prototype[name];
        type.prototype[name] = function (...given) { work.now += 1; return own.apply(this, given); };
      };
      count(store.Rate, "at");
      count(table.TopicTable, "fill");
      count(tree.TopicTree, "visitChild");
      const draw = table.TopicTable.prototype.draw;
      table.TopicTable.prototype.draw = function (moment) {
        draw.call(this, moment);
        work.most = Math.max(work.most, work.now);
        work.now = 0;
      };
      window.takeWork = () => {
        const { most } = work;
        Object.assign(work, { now: 0, most: 0 });
        return [most, document.querySelectorAll(".rows .row").length];
      };
    }).then(() => done());"""


def test_five_thousand_topics_cost_a_frame_no_more_than_a_hundred(page, hub):
    def send(topics, value):
        for start in range(0, topics, 100):
            documents = [page.document(f"site/{number // 100:02d}/device/{number:04d}/temp", str(value))
                         for number in range(start, min(start + 100, topics))]
            assert hub.publish("batch", f"[{','.join(documents)}]")[0] == 200

    def measure(topics):
        """Work of the most expensive frame while only values change, and rows on the page."""
        send(topics, 0)
        page.wait_text("#counts", f"{topics:,} topics", 30)
        row_count = "return Number(document.querySelector('#scroll').getAttribute('aria-rowcount'))"
        wait_until(lambda: page.browser.execute_script(row_count) >= topics, 30, "a row for each topic")
        page.browser.execute_script("window.takeWork()")
        for value in range(1, 5):
            send(topics, value)
            page.wait_value("site/00/device/0000/temp", str(value), 30)
        return page.browser.execute_script("return window.takeWork()")
    page.browser.execute_async_script(COUNT_WORK)
    # They come and go with the servers' state, and the table gets what height they leave.
    page.browser.execute_script("document.querySelector('#notices').hidden = true")
    few, rows = measure(100)
    assert few >= rows > 10
    many, rows_of_many = measure(5000)
    assert rows_of_many == rows and many <= few, "only what is visible is drawn"
    page.search("site/+/device/4999/temp")
    page.wait_value("site/49/device/4999/temp", "4", 20)
    page.search("")
    page.browser.execute_script("document.querySelector('#scroll').scrollTop = 60000")
    wait_until(lambda: len(page.rows()) > 10 and "site/00/device/0000/temp" not in page.rows(), 10, "the rows further down")
    assert page.browser.execute_script("return window.takeWork()")[1] == rows


def test_the_failure_card_lists_what_failed_as_plain_text(make_page, database):
    nasty = '<img src=x onerror="document.title=1">'
    add_rows(database, [json_row(f"a/{nasty}", "1", error=f"refused {nasty}")])
    page = make_page(database=database).open()
    page.wait_text("#failures-open b", "1")
    page.click("#failures-open")
    page.wait_text("#failures-rows", f"refused {nasty}")
    assert f"a/{nasty}" in page.text("#failures-rows") and "2026-11-24" in page.text("#failures-rows")
    assert page.browser.title == "mqtt-bridge"
    assert page.browser.execute_script("return document.querySelectorAll('#failures img').length") == 0
    add_rows(database, [json_row("b/second", "2")])
    page.wait_text("#failures-rows", "b/second")
    page.click("#failures-close")
    wait_until(lambda: not page.browser.execute_script("return document.querySelector('#failures').open"), 15, "it closes")
    page.browser.execute_script("document.querySelector('#failures-open').focus()")
    page.press("\ue007")  # Enter
    page.wait_text("#failures-rows", "b/second")
    assert page.errors() == []
