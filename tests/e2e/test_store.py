"""What the page makes of updates (web/store.js, web/tree.js, web/format.js), run in the real browser."""

import json

import pytest

# A group runs one by one: it starts one browser.
pytestmark = [pytest.mark.own_core, pytest.mark.xdist_group("browser")]

SPOOL = "00112233445566778899aabbccddeeff"
OTHER = "ffeeddccbbaa99887766554433221100"


def at(seconds, micros=0):
    return f"2026-11-24T10:00:{seconds:02d}.{micros:06d}Z"


def document(identity, payload, received_at=None, topic="a/b", **more):
    members = {"id": identity, "topic": topic, "payload": payload, **more}
    if received_at:
        members["receivedAt"] = received_at
    return json.dumps(members)


def shown_after(page, *documents):
    """Feeds a store; returns each result and what the topic shows in the end."""
    return page.module("/store.js", """
        const store = new m.TopicStore();
        const results = args.flatMap((data) => m.parseUpdate(data)).map((message, i) => store.add(message, 1000 + i));
        const entry = store.topics.get("a/b");
        return { results, text: entry.latest.text, count: entry.count, repeats: store.repeats, late: store.late };
        """, *documents)


def parsed(page, data):
    return page.module("/store.js", """
        return m.parseUpdate(args[0]).map((one) => ({ topic: one.topic, kind: one.kind, text: one.text,
          value: one.kind === "binary" ? [...one.value] : one.value, receivedUs: one.receivedUs, id: one.identity.text }));
        """, data)


def test_a_repeat_changes_nothing(page):
    first = document(f"{SPOOL}-1", 1, at(1))
    found = shown_after(page, first, document(f"{SPOOL}-2", 2, at(2)), first, first)
    assert found == {"results": ["new", "new", "repeat", "repeat"], "text": "2", "count": 2, "repeats": 2, "late": 0}


def test_a_message_from_the_history_is_counted_when_it_arrives_live(page):
    found = page.module("/store.js", """
        const store = new m.TopicStore();
        const [message] = m.parseUpdate(args[0]);
        const results = [store.addPast(message, 1000), store.add(message, 1001), store.add(message, 1002),
                         store.addPast(message, 1003)];
        const entry = store.topics.get("a/b");
        return { results, count: entry.count, history: entry.history.length };
        """, document(f"{SPOOL}-1", 1, at(1)))
    assert found == {"results": ["new", "counted", "repeat", "repeat"], "count": 1, "history": 1}


def test_the_same_id_with_and_without_its_prefix_is_one_message(page):
    found = shown_after(page, document(f"{SPOOL}-1", 1, at(1)), document(f"urn:mqtt-bridge:{SPOOL}-1", 1, at(1)))
    assert found["results"] == ["new", "repeat"]


def test_within_a_spool_the_sequence_and_not_the_time_orders_messages(page):
    found = shown_after(page, document(f"{SPOOL}-10", "ten", at(1)), document(f"{SPOOL}-9", "nine", at(5)))
    assert (found["results"], found["text"], found["count"]) == (["new", "late"], "ten", 2)
    found = shown_after(page, document(f"{SPOOL}-9", "nine", at(5)), document(f"{SPOOL}-10", "ten", at(1)))
    assert (found["results"], found["text"]) == (["new", "new"], "ten")


def test_sequences_beyond_what_a_double_holds_are_compared_exactly(page):
    found = shown_after(page, document(f"{SPOOL}-9007199254740993", "new", at(1)),
                        document(f"{SPOOL}-9007199254740992", "old", at(1)))
    assert found["text"] == "new"


def test_between_spools_the_time_decides_to_the_microsecond(page):
    found = shown_after(page, document(f"{SPOOL}-900", "older", at(1, 123456)), document(f"{OTHER}-1", "newer", at(1, 123457)))
    assert found["text"] == "newer"
    found = shown_after(page, document(f"{OTHER}-1", "newer", at(1, 123457)), document(f"{SPOOL}-900", "older", at(1, 123456)))
    assert (found["results"], found["text"]) == (["new", "late"], "newer")


def test_entries_of_other_programs_are_ordered_by_their_stream_id(page):
    found = shown_after(page, document("1795514400000-10", "b"), document("1795514400000-9", "a"), document("1795514399999-99", "c"))
    assert (found["results"], found["text"]) == (["new", "late", "late"], "b")


def test_entries_of_one_id_in_two_streams_are_two_messages(page):
    found = shown_after(page, document("1795514400000-0-00c0ffee", "of one"), document("1795514400000-0-0badcafe", "of the other"),
                        document("1795514400001-0-00c0ffee", "behind both"), document("1795514400000-0-00c0ffee", "of one"))
    assert (found["results"], found["text"]) == (["new", "late", "new", "repeat"], "behind both")


def test_a_stream_id_and_a_spool_identity_are_compared_by_time(page):
    # 1795514400000 ms is 2026-11-24T10:00:00Z.
    found = shown_after(page, document(f"{SPOOL}-1", "spool", at(1)), document("1795514400000-0", "stream"))
    assert found["text"] == "spool"
    found = shown_after(page, document("1795514402000-0", "stream"), document(f"{SPOOL}-1", "spool", at(1)))
    assert found["text"] == "stream"


def test_any_order_of_arrival_ends_on_the_newest(page):
    assert page.module("/store.js", """
        for (let round = 0; round < 200; round++) {
          const store = new m.TopicStore();
          const order = Array.from({ length: 30 }, (_, i) => i + 1).sort(() => Math.random() - 0.5);
          for (const number of [...order, ...order.slice(0, 10)]) {
            const [message] = m.parseUpdate(JSON.stringify({ id: `${args[0]}-${number}`, topic: "a/b", payload: number }));
            store.add(message, 0);
          }
          const entry = store.topics.get("a/b");
          if (entry.latest.value !== 30 || entry.count !== 30 || store.repeats !== 10) { return [order, entry.latest.value]; }
        }
        return "well";""", SPOOL) == "well"


def test_numbers_are_shown_as_they_were_sent(page):
    for payload in ("1.0", "21.50", "12345678901234567890", "1e3", "-0", '{"a": 1.0,"b":[1, 2.50]}'):
        data = f'{{"id":"{SPOOL}-1","topic":"a/\\"payload\\":/b","payload":{payload},"receivedAt":"{at(1)}"}}'
        found = parsed(page, data)[0]
        assert (found["kind"], found["text"], found["topic"]) == ("json", payload, 'a/"payload":/b')


def test_payloads_that_look_like_the_document_are_kept_apart(page):
    payload = '{"x":1,"receivedAt":"2020-01-01T00:00:00Z"}'
    assert parsed(page, f'{{"id":"{SPOOL}-1","topic":"t","payload":{payload}}}')[0]["text"] == payload
    found = parsed(page, f'{{"id":"{SPOOL}-1","topic":"t","payload":{payload},"receivedAt":"{at(1)}"}}')[0]
    assert found["text"] == payload and found["receivedUs"] % 60000000 == 1000000


def test_a_payload_full_of_what_could_follow_it_does_not_hold_up_the_page(page):
    """A search that began anew at each place of it took half a minute and more, which the browser's time for a script ends."""
    assert page.module("/store.js", """
        const members = Array.from({ length: 100000 }, (_, i) => `,"encoding":"${i}"`).join("");
        const payload = `{"a":1.0${members}, "b":2}`;
        const [message] = m.parseUpdate(`{"id":"${args[0]}-1","topic":"t","payload":${payload},"receivedAt":"${args[1]}"}`);
        return message.text === payload;""", SPOOL, at(1)) is True


def test_text_binary_and_lists_of_documents_are_understood(page):
    found = parsed(page, document(f"{SPOOL}-1", "été\n", at(1)))[0]
    assert (found["kind"], found["text"]) == ("text", "été\n")
    found = parsed(page, document(f"{SPOOL}-2", "AP+A", at(1), encoding="base64"))[0]
    assert (found["kind"], found["value"]) == ("binary", [0, 255, 128])
    found = parsed(page, f"[{document(f'{SPOOL}-3', 1)},{document(f'{SPOOL}-4', None)}]")
    assert [(one["id"][-1], one["text"]) for one in found] == [("3", "1"), ("4", "null")]


def test_each_document_of_a_list_keeps_its_own_text(page):
    payloads = ["1.0", '"a]b,{\\"c"', "[]", "{}", '[1, [2.50], "]"]', '{"x": {"y": [1.0]}}', "-0", '"\\\\"', "null", '""']
    documents = [f'{{"id":"{SPOOL}-{number}","topic":"t]\\"[,","payload":{payload}}}' for number, payload in enumerate(payloads)]
    for between in (",", ",\n", " , "):
        found = parsed(page, f" [{between.join(documents)}]")
        assert [(one["kind"], one["text"]) for one in found] == \
            [("text", json.loads(payload)) if payload[0] == '"' else ("json", payload) for payload in payloads]


def test_a_last_value_that_was_too_long_gives_way_to_the_message_itself(page):
    long = json.dumps({"id": f"{SPOOL}-2", "topic": "a/b", "bytes": 34567, "receivedAt": at(2)})
    found = page.module("/store.js", """
        const store = new m.TopicStore();
        const take = (how, data) => m.parseUpdate(data).map((message) => store[how](message, 1000))[0];
        const shown = () => store.topics.get("a/b").latest;
        const results = [take("add", args[0]), take("addPast", args[1]), take("addPast", args[1]), shown().kind, shown().value,
                         take("addPast", args[2]), shown().text, take("add", args[2]), take("addPast", args[1])];
        return [...results, store.topics.get("a/b").history.length, store.count];
        """, document(f"{SPOOL}-1", 1, at(1)), long, document(f"{SPOOL}-2", "whole", at(2)))
    assert found == ["new", "new", "repeat", "omitted", 34567, "new", "whole", "counted", "repeat", 2, 2]


def test_past_values_are_shown_and_charted_but_not_counted(page):
    found = page.module("/store.js", """
        const store = new m.TopicStore();
        const [past, live, older] = args.map((data) => m.parseUpdate(data)[0]);
        const results = [store.addPast(past, 1000), store.add(live, 2000), store.addPast(older, 3000), store.add(live, 4000)];
        const entry = store.topics.get("a/b");
        return [results, entry.latest.text, entry.count, store.count, store.late, entry.history.map((one) => one.text), entry.rate.at(4000)];
        """, document(f"{SPOOL}-2", 2, at(2)), document(f"{SPOOL}-3", 3, at(3)), document(f"{SPOOL}-1", 1, at(1)))
    assert found == [["new", "new", "late", "repeat"], "3", 1, 1, 0, ["1", "2", "3"], None]


@pytest.mark.parametrize("data", ["", "21.5", "hello", "null", "[]", "{}", '{"id":"x","topic":"t","payload":1}',
                                  '{"id":"abc-1","topic":5,"payload":1}', f'{{"id":"{SPOOL}-1","topic":"t"}}',
                                  f'{{"id":"{SPOOL}-1","topic":"t","payload":"*","encoding":"base64"}}', "[1,null]"])
def test_updates_not_from_the_bridge_are_ignored(page, data):
    assert parsed(page, data) == []


def test_times_are_read_to_the_microsecond(page):
    read = page.module("/store.js", "return args.map(m.parseTime)", "1970-01-01T00:00:01.5Z", "1970-01-01T00:00:01.123456Z",
                       "1970-01-01T01:00:00+01:00", "yesterday", None)
    assert read == [1500000, 1123456, 0, None, None]


def test_json_is_indented_without_touching_its_values(page):
    indented = page.module("/store.js", "return args.map(m.indentJson)", '{"a":1.0,"b":[],"c":{"d":"x,{\\"y"},"e":[1,2]}', "{}", "5")
    assert indented == ['{\n  "a": 1.0,\n  "b": [],\n  "c": {\n    "d": "x,{\\"y"\n  },\n  "e": [\n    1,\n    2\n  ]\n}', "{}", "5"]


def test_rates_are_right_for_quick_and_for_slow_topics(page):
    def rate(gap_ms, count, later_ms):
        return page.module("/store.js", """
            const [gap, count, later] = args;
            const rate = new m.Rate();
            for (let i = 0; i < count; i++) { rate.add(1e12 + i * gap); }
            return rate.at(1e12 + (count - 1) * gap + later);""", gap_ms, count, later_ms)
    assert rate(10, 3000, 1) == pytest.approx(100, rel=0.02)
    assert rate(10, 300, 1) == pytest.approx(100, rel=0.1), "the first seconds"
    assert rate(20000, 5, 1) == pytest.approx(0.05, rel=0.01)
    assert rate(20000, 5, 200000) < 0.02, "it has stopped"
    assert rate(10, 3000, 60000) < 0.2, "it has stopped"
    assert rate(1000, 1, 1) is None


def rows(page, topics, layout="tree", search="", folded=()):
    return page.module("/tree.js", """
        const [topics, layout, search, folded] = args;
        const tree = new m.TopicTree();
        const entries = topics.map((topic) => ({ topic }));
        entries.forEach((entry) => tree.add(entry));
        folded.forEach((path) => tree.toggle(path));
        const matches = m.makeMatcher(search);
        const accept = (entry) => matches(entry.topic);
        const rows = layout === "tree" ? tree.rows(accept, search !== "") : m.flatRows(entries, accept);
        return rows.map((row) => `${"  ".repeat(row.depth)}${row.label}${row.kind === "group" ? ` (${row.size})` : ""}`);
        """, topics, layout, search, list(folded))


TOPICS = ["home/bath/temp", "home/attic/temp", "home/attic/light", "home/attic", "line/10", "line/9", "a/b/c/d", "/x/y"]


def test_topics_make_a_tree_that_joins_lonely_levels(page):
    assert rows(page, TOPICS) == [
        "/x/y", "a/b/c/d",
        "home (4)", "  attic", "  attic (2)", "    light", "    temp", "  bath/temp",
        "line (2)", "  9", "  10"]


def test_a_tree_of_five_thousand_levels_with_a_value_each_is_shown(page):
    topics = ["a" + "/a" * depth for depth in range(5000)]
    shown = page.module("/tree.js", """
        const tree = new m.TopicTree();
        args[0].forEach((topic) => tree.add({ topic }));
        return tree.rows(() => true, false).map((row) => [row.kind, row.depth, row.size ?? 0]);
        """, topics)
    assert len(shown) == 2 * 5000 - 1, "a row for each value, and one for each level that has more below"
    assert shown[:3] == [["topic", 0, 0], ["group", 0, 4999], ["topic", 1, 0]]
    assert shown[-1] == ["topic", 4999, 0]


def test_numbers_of_fields_named_like_an_objects_own_are_found(page):
    found = page.module("/store.js", """
        const value = JSON.parse(args[0]);
        return Object.entries(m.numbersIn(value)).concat([["in", "constructor" in m.numbersIn(1)]]);
        """, '{"constructor":1,"__proto__":2,"toString":{"valueOf":3}}')
    assert sorted(map(tuple, found)) == [("__proto__", 2), ("constructor", 1), ("in", False), ("toString.valueOf", 3)]


def test_folded_levels_count_what_they_hide_and_open_for_a_search(page):
    assert rows(page, TOPICS, folded=["home"])[2:4] == ["home (4)", "line (2)"]
    assert rows(page, TOPICS, folded=["home"], search="bath") == ["home (1)", "  bath/temp"]


def test_a_search_takes_words_or_a_filter(page):
    assert rows(page, TOPICS, "list", "TEMP home") == ["home/attic/temp", "home/bath/temp"]
    assert rows(page, TOPICS, "list", "home/+/temp") == ["home/attic/temp", "home/bath/temp"]
    assert rows(page, TOPICS, "list", "home/attic/#") == ["home/attic", "home/attic/light", "home/attic/temp"]
    assert rows(page, TOPICS, "list", "nothing") == []


@pytest.mark.parametrize("topic_filter, topic, matches", [
    ("#", "a/b", True), ("#", "$SYS/a", False), ("+/a", "$SYS/a", False), ("$SYS/#", "$SYS/a", True),
    ("a/+", "a/b", True), ("a/+", "a", False), ("a/+", "a/b/c", False), ("a/#", "a", True), ("+", "/a", False),
    ("/+", "/a", True), ("a/+/c", "a//c", True),
])
def test_filters_match_as_in_mqtt(page, topic_filter, topic, matches):
    assert page.module("/tree.js", "return m.filterMatches(...args)", topic_filter, topic) is matches


def test_counts_rates_and_ages_are_formatted_short(page):
    formatted = page.module("/format.js", """
        return [m.formatCount(99999), m.formatCount(100000), m.formatCount(12345678), m.formatRate(0), m.formatRate(0.256),
          m.formatRate(12.4), m.formatRate(0.996), m.formatRate(9.97), m.formatRate(1234.4), m.formatTopicRate(null), m.formatTopicRate(5), m.formatTopicRate(0.05), m.formatTopicRate(0.0005),
          m.formatAge(-5), m.formatAge(59999), m.formatAge(60000), m.formatAge(7200000), m.formatAge(200000000)]""")
    assert formatted == ["99,999", "100k", "12.3M", "0", "0.26", "12", "1.0", "10", "1,234", "–", "5.0/s", "3.0/min", "1.8/h",
                         "now", "59 s", "1 min", "2 h", "2 d"]
