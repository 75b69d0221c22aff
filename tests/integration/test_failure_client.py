"""client/failure against the real PostgreSQL: the row that a failed message becomes."""

import base64
import datetime
import json
import threading
import zlib
from urllib.parse import quote

import pytest
from bridge import wait_until
from drivers import REFUSED, UNREACHABLE, USAGE, FailureDriver, build_driver, drivers_of


@pytest.fixture(scope="module")
def program():
    return build_driver("failure_driver")


@pytest.fixture
def make_driver(program, folder):
    with drivers_of(FailureDriver, program, folder) as make:
        yield make


@pytest.fixture
def driver(make_driver, database):
    return make_driver(database.dsn)


def _utc_now():
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)


def test_a_row_is_what_doctrine_writes(driver, database):
    before = _utc_now().replace(microsecond=0)
    assert driver.write("body é {}", '{"type":"App\\\\Message"}') == (0, "")
    row = database.failures()[0]
    after = _utc_now()
    assert row["body"] == "body é {}"
    assert row["headers"] == '{"type":"App\\\\Message"}'
    assert row["queue_name"] == "failed"
    assert before <= row["created_at"] <= after
    assert row["available_at"] == row["created_at"]
    assert row["delivered_at"] is None


def test_the_table_is_made_as_doctrine_6_4_and_dbal_3_make_it(driver, database):
    assert driver.write() == (0, "")
    columns = database.query(
        "SELECT column_name, data_type, character_maximum_length AS length, datetime_precision AS precision, "
        "is_nullable, column_default FROM information_schema.columns WHERE table_name = 'messenger_messages' "
        "ORDER BY ordinal_position")
    assert [tuple(column.values()) for column in columns] == [
        ("id", "bigint", None, None, "NO", "nextval('messenger_messages_id_seq'::regclass)"),
        ("body", "text", None, None, "NO", None),
        ("headers", "text", None, None, "NO", None),
        ("queue_name", "character varying", 190, None, "NO", None),
        ("created_at", "timestamp without time zone", None, 0, "NO", None),
        ("available_at", "timestamp without time zone", None, 0, "NO", None),
        ("delivered_at", "timestamp without time zone", None, 0, "YES", "NULL::timestamp without time zone")]
    indexes = database.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'messenger_messages' ORDER BY 1")
    assert [row["indexdef"] for row in indexes] == [
        "CREATE INDEX idx_75ea56e0fb7336f0e3bd61ce16ba31dbbf396750 ON public.messenger_messages USING btree "
        "(queue_name, available_at, delivered_at, id)",
        "CREATE UNIQUE INDEX messenger_messages_pkey ON public.messenger_messages USING btree (id)"]
    function = database.query("SELECT prosrc FROM pg_proc WHERE proname = 'notify_messenger_messages'")[0]["prosrc"]
    assert function == ("\n    BEGIN\n        PERFORM pg_notify('messenger_messages', NEW.queue_name::text);\n"
                        "        RETURN NEW;\n    END;\n")
    triggers = database.query("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
    assert [row["tgname"] for row in triggers] == ["notify_trigger"]


def test_a_listener_is_notified_of_a_row(driver, database):
    assert driver.write() == (0, "")
    listener = database.server.connect(database.name)
    try:
        listener.cursor().execute('LISTEN "messenger_messages"')
        assert driver.write() == (0, "")
        wait_until(lambda: listener.poll() or listener.notifies, 15, "the notification comes")
        assert listener.notifies[0].payload == "failed"
    finally:
        listener.close()


def test_symfony_reads_the_table_that_we_made_and_we_write_into_symfonys(make_driver, database, php_peer):
    ours = make_driver(database.dsn)
    assert ours.write("x") == (0, "")
    assert "There are no messages" not in php_peer.run("messenger:failed:show", check=False).stdout
    database.query("DROP TABLE messenger_messages")
    php_peer.run("messenger:failed:show")
    assert database.has_table()
    assert ours.write("y") == (0, "")
    assert [row["body"] for row in database.failures()] == ["y"]


def test_workers_that_race_for_the_missing_table_all_write(make_driver, database):
    drivers = [make_driver(database.dsn) for _ in range(6)]
    for number, driver in enumerate(drivers):
        driver.tell(*driver.command(f"body {number}"))
    for driver in drivers:
        wait_until(driver.answers, 20, "every driver is answered")
        assert driver.answers()[0].startswith("0 "), driver.answers()
    assert sorted(row["body"] for row in database.failures()) == [f"body {number}" for number in range(6)]


def test_rows_go_into_the_configured_schema_table_and_queue(make_driver, database):
    database.query("CREATE SCHEMA app")
    driver = make_driver(database.dsn, table="app.Order", queue="dead")
    assert driver.write("a") == (0, "")
    assert driver.write("b") == (0, "")
    assert database.query('SELECT body, queue_name FROM app."order" ORDER BY id') == [
        {"body": "a", "queue_name": "dead"}, {"body": "b", "queue_name": "dead"}]
    assert driver.count() == (0, 2, "")


def test_a_row_that_is_there_already_is_not_written_again(driver, database):
    now_us = int(datetime.datetime.now().timestamp() * 1e6)
    headers = '{"X-Mqtt-Entry":"messages:17-1"}'
    for _ in range(2):
        assert driver.write("body", headers, ':17-1"', now_us) == (0, "")
    assert len(database.failures()) == 1
    assert driver.write("body", headers.replace("17-1", "17-10"), ':17-10"', now_us) == (0, "")
    assert len(database.failures()) == 2, "an identity that begins alike is another"
    assert driver.write("body", headers, ':17-1"', now_us - 3600 * 10**6) == (0, "")
    assert len(database.failures()) == 3, "a row of another time does not count"


@pytest.mark.parametrize("time", [0, -1, 2**63 - 1, "in an hour", "an hour ago"])
def test_a_row_is_found_whatever_its_entrys_time_and_php_sees_it(driver, database, time):
    """The id of a stream entry may be any number, and the clock of Redis may be ahead."""
    now_us = int(datetime.datetime.now().timestamp() * 1e6)
    time = {"in an hour": now_us + 3600 * 10**6, "an hour ago": now_us - 3600 * 10**6}.get(time, time)
    for _ in range(2):
        assert driver.write("body", '{"X-Mqtt-Entry":"17-1"}', '"17-1"', time) == (0, "")
    [row] = database.failures()
    assert row["available_at"] <= _utc_now()


def test_a_row_written_while_its_time_lay_ahead_is_found_later(driver, database):
    write = lambda time: driver.write("body", '{"X-Mqtt-Entry":"17-1"}', '"17-1"', int(time.timestamp() * 1e6))
    hour_ago = datetime.datetime.now() - datetime.timedelta(hours=1)
    assert write(hour_ago) == (0, "")
    earlier = _utc_now() - datetime.timedelta(hours=1) - database.failures()[0]["available_at"]
    soon = datetime.datetime.now() + earlier + datetime.timedelta(seconds=3)
    assert write(soon) == (0, "")
    assert database.failures()[1]["available_at"].year == 1970
    wait_until(lambda: datetime.datetime.now() > soon - earlier + datetime.timedelta(seconds=2), 10, "its time comes")
    assert write(soon) == (0, "")
    assert len(database.failures()) == 2


def test_a_row_is_found_without_reading_all_others(driver, database):
    """The table has as many rows in one hour, evenly spread, as an outage may bring."""
    now_us = int(datetime.datetime.now().timestamp() * 1e6)
    assert driver.write("for the table") == (0, "")
    database.query("INSERT INTO messenger_messages (body, headers, queue_name, created_at, available_at) SELECT 'b', "
                   "'{\"X-Mqtt-Entry\":\"1-' || n || '\"}', 'failed', now(), now() AT TIME ZONE 'UTC' - "
                   "n %% 3600 * interval '1 second' FROM generate_series(1, 72000) n")
    statistics = ("SELECT seq_tup_read + idx_tup_fetch AS read, n_tup_ins AS inserted FROM pg_stat_user_tables "
                  "WHERE relname = 'messenger_messages'")
    before = wait_until(lambda: (found := database.query(statistics)[0])["inserted"] == 72001 and found, 10, "counted")
    assert driver.write("body", "[]", '"17-1"', now_us) == (0, "")
    after = wait_until(lambda: (found := database.query(statistics)[0])["inserted"] == 72002 and found, 10, "counted")
    assert after["read"] - before["read"] < 200


def test_a_payload_that_quotes_an_identity_does_not_count_as_its_row(driver, database):
    assert driver.write('x:17-1"', "[]", ':17-9"', 0) == (0, "")
    assert driver.write("body", "[]", ':17-1"', 0) == (0, "")
    assert len(database.failures()) == 2


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_concurrent_writes_of_one_entry_make_one_row(make_driver, database, isolation):
    """Under each default isolation of the database."""
    database.query(f"ALTER DATABASE {database.name} SET default_transaction_isolation = '{isolation}'")
    drivers = [make_driver(database.dsn) for _ in range(4)]
    drivers[0].write("first, for the table")
    for number in range(5):
        headers, name = f'{{"X-Mqtt-Entry":"17-{number}"}}', f'"17-{number}"'
        threads = [threading.Thread(target=driver.write, args=("body", headers, name, 0)) for driver in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(database.failures()) == 6


def test_a_row_in_another_queue_does_not_count(make_driver, database):
    first, second = make_driver(database.dsn, queue="other"), make_driver(database.dsn)
    assert first.write("a", '{"x":"urn:x:1"}', "urn:x:1", 0) == (0, "")
    assert second.write("a", '{"x":"urn:x:1"}', "urn:x:1", 0) == (0, "")
    assert len(database.failures()) == 1


def test_a_body_that_no_text_column_takes_is_kept_as_base64(driver, database):
    for raw in (b"a\0b", b"\xff\xfe", b"\xc0\x80"):
        assert driver.write(raw) == (0, "")
    assert [base64.b64decode(row["body"]) for row in database.failures()] == [b"a\0b", b"\xff\xfe", b"\xc0\x80"]


def test_an_identity_that_no_text_column_takes_is_not_searched_for(driver, database):
    assert driver.write("body", "[]", b"a\0b", 0) == (0, "")
    assert driver.write("body", "[]", b"\xff", 0) == (0, "")
    assert len(database.failures()) == 2


def test_headers_that_no_text_column_takes_are_refused(driver, database):
    for raw in (b"a\0b", b"\xff"):
        result, text = driver.write("body", raw)
        assert result == REFUSED and "NUL" in text
    assert driver.write("body") == (0, ""), "and the next row is written"


def test_a_large_body_is_written_whole(driver, database):
    body = json.dumps({"payload": "é" * 5_000_000}, ensure_ascii=False)
    assert driver.write(body, timeout=60) == (0, "")
    assert database.failures()[0]["body"] == body


def test_without_auto_setup_a_missing_table_is_refused(make_driver, database):
    driver = make_driver(database.dsn, auto_setup=False)
    result, text = driver.write()
    assert result == REFUSED and "auto_setup" in text and "messenger_messages" in text
    assert not database.has_table()


def test_a_role_that_may_not_make_the_table_is_refused(make_driver, database):
    database.query("DO $$ BEGIN CREATE ROLE narrow LOGIN PASSWORD 'narrow'; "
                   "EXCEPTION WHEN duplicate_object THEN END $$")
    database.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    driver = make_driver(f"postgresql://narrow:narrow@127.0.0.1:{database.server.port}/{database.name}")
    result, text = driver.write()
    assert result == REFUSED and "permission denied" in text


def test_a_missing_column_is_refused_with_the_text_of_postgres(driver, database):
    database.query("CREATE TABLE messenger_messages (id bigint, body text)")
    result, text = driver.write()
    assert result == REFUSED and "headers" in text
    assert database.server.PASSWORD not in text


def test_wrong_password_and_missing_database_are_reported_without_secret(make_driver, database):
    port = database.server.port
    result, text = make_driver(f"postgresql://bridge:hunter2@127.0.0.1:{port}/{database.name}").write()
    assert result == UNREACHABLE and "password authentication failed" in text and "hunter2" not in text
    result, text = make_driver(database.dsn.replace(database.name, "nowhere")).write()
    assert result == UNREACHABLE and '"nowhere" does not exist' in text


def test_a_database_that_comes_back_is_used_again(make_driver, make_postgres):
    postgres = make_postgres()
    database = postgres.create_database()
    driver = make_driver(database.dsn)
    assert driver.write("a") == (0, "")
    postgres.stop()
    result, text = driver.write("b")
    assert result == UNREACHABLE and f"127.0.0.1:{postgres.port}" in text
    postgres.start()
    assert driver.write("b") == (0, "")
    postgres.restart()
    assert driver.write("c") == (0, ""), "a connection that was cut while idle is opened anew"
    assert [row["body"] for row in database.failures()] == ["a", "b", "c"]


def test_a_frozen_database_is_given_up(make_driver, make_postgres):
    postgres = make_postgres()
    driver = make_driver(postgres.create_database().dsn)
    postgres.freeze()
    result, text = driver.write(timeout=12)
    assert result == UNREACHABLE and "timeout expired" in text and f"127.0.0.1:{postgres.port}" in text
    result, count, text = driver.count(500)
    assert result == UNREACHABLE and f"127.0.0.1:{postgres.port}/" in text and "500 ms" in text
    postgres.thaw()
    assert driver.write() == (0, "")
    postgres.freeze()
    result, text = driver.write(timeout=20)
    assert result == UNREACHABLE and "no answer within 10 s" in text
    postgres.thaw()


def hosts_dsn(database, query, *ports):
    return (f"postgresql://{database.server.USER}:{quote(database.server.PASSWORD, safe='')}@/{database.name}?{query}"
            f"&port={','.join(map(str, ports))}")


@pytest.mark.parametrize("query", ["host=localhost,localhost", "host=127.0.0.1,127.0.0.1",
                                   "hostaddr=127.0.0.1,127.0.0.1"])
def test_the_next_host_is_tried_after_one_that_accepts_and_says_nothing(make_driver, make_postgres, database, query):
    silent = make_postgres()
    driver = make_driver(hosts_dsn(database, query, silent.port, database.server.port))
    silent.freeze()
    try:
        # `localhost` may be two addresses: then the silent one's turn comes twice.
        assert driver.write(timeout=20) == (0, "")
        assert driver.count(500)[0] == UNREACHABLE
        wait_until(lambda: driver.count(500) == (0, 1, ""), 20, "the rows are counted at the other host")
    finally:
        silent.thaw()
    assert len(database.failures()) == 1


def test_the_next_host_is_tried_after_one_that_takes_no_rows(make_driver, make_postgres, database):
    demoted = make_postgres("default_transaction_read_only=on")
    demoted.create_database(name=database.name)
    ports = demoted.port, database.server.port
    driver = make_driver(hosts_dsn(database, "host=127.0.0.1,127.0.0.1", *ports))
    for _ in range(2):
        assert driver.write() == (0, "")
    assert len(database.failures()) == 2
    driver = make_driver(hosts_dsn(database, "host=127.0.0.1,127.0.0.1&target_session_attrs=any", *ports))
    result, text = driver.write()
    assert result == UNREACHABLE and "read-only" in text, "who sets the option has it"


def test_the_next_host_is_tried_after_one_demoted_while_connected(make_driver, make_postgres, database):
    demoted = make_postgres()
    formerly = demoted.create_database(name=database.name)
    driver = make_driver(hosts_dsn(database, "host=127.0.0.1,127.0.0.1", demoted.port, database.server.port))
    assert driver.write() == (0, "")
    formerly.query("ALTER SYSTEM SET default_transaction_read_only = on")
    formerly.query("SELECT pg_reload_conf()")
    wait_until(lambda: formerly.query("SHOW default_transaction_read_only")[0].popitem()[1] == "on", 15, "it is demoted")
    result, text = driver.write("again")
    assert result == UNREACHABLE and "read-only" in text
    assert driver.write("again") == (0, "")
    assert [row["body"] for row in database.failures()] == ["again"]


@pytest.mark.parametrize("connected", [False, True])
def test_a_process_ends_at_once_though_its_write_is_unanswered(make_driver, make_postgres, connected):
    frozen = make_postgres()
    driver = make_driver(frozen.create_database().dsn)
    if connected:
        assert driver.write() == (0, "")
    frozen.freeze()
    try:
        assert driver.ask("abandon", *driver.command("body")[1:]) == "0 "
        wait_until(lambda: not driver.is_running(), 2, "it ends")
    finally:
        frozen.thaw()
    driver.finish()


@pytest.mark.parametrize("dedupe_key", ["", '"urn:1"'])
@pytest.mark.parametrize("body, as_stored", [
    (r'O:1:\"M\":1:{s:1:\"p\";s:3:\"€\";}', lambda body: base64.b64encode(body.encode()).decode()),
    ('{"p":"a€😀\\n","ü":1}', lambda body: json.dumps(json.loads(body), separators=(",", ":"))),
    ('{"p":"ü"}', lambda body: body),
    ('{"p":€}', lambda body: base64.b64encode(body.encode()).decode()),
    ("\0€", lambda body: base64.b64encode(body.encode()).decode()),
], ids=["php", "json", "in latin1", "like json", "nul"])
def test_text_outside_the_database_encoding_is_stored_as_ascii(make_driver, postgres, body, as_stored, dedupe_key):
    database = postgres.create_database("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    driver = make_driver(database.dsn)
    headers = '{"type":"€","X-Mqtt-Entry":"urn:1"}'
    assert driver.write(body, headers if "€" in body else "{}", dedupe_key, 0) == (0, "")
    row = database.failures()[0]
    assert row["body"] == as_stored(body)
    assert row["headers"] == (headers.replace("€", r"\u20ac") if "€" in body else "{}")
    assert driver.write("plain") == (0, "")


def test_a_locked_table_is_waited_for_and_a_killed_session_is_not_lost(driver, database):
    assert driver.write("a") == (0, "")
    locker = database.server.connect(database.name)
    try:
        locker.autocommit = False
        locker.cursor().execute("LOCK TABLE messenger_messages IN ACCESS EXCLUSIVE MODE")
        driver.tell(*driver.command("b"))
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
        pid = wait_until(lambda: database.query(waiting, database.name), 15, "it waits for the lock")[0]["pid"]
        database.query("SELECT pg_terminate_backend(%s)", pid)
        wait_until(lambda: len(driver.answers()) == 2, 8, "it is answered, before a statement's time is up")
        assert driver.answers()[1].startswith(f"{UNREACHABLE} "), driver.answers()
    finally:
        locker.close()
    assert driver.write("b", "[]", "b", 0) == (0, "")
    assert [row["body"] for row in database.failures()] == ["a", "b"]


@pytest.mark.parametrize("lock, said", [
    ("LOCK TABLE messenger_messages IN ACCESS EXCLUSIVE MODE", "somebody else has locked the table"),
    (f"SELECT pg_advisory_xact_lock({0x6D71 + 1}, {zlib.crc32(b'a name') - 2**32})",
     "somebody else has long been writing a row of the same entry")])
def test_a_write_that_times_out_on_a_lock_names_the_lock(driver, database, lock, said):
    assert driver.write("a") == (0, "")
    locker = database.server.connect(database.name)
    locker.autocommit = False
    try:
        locker.cursor().execute(lock)
        result, text = driver.write("b", "[]", "a name", 0)
    finally:
        locker.close()
    assert result == UNREACHABLE and text.startswith(said)
    assert driver.write("b", "[]", "a name", 0) == (0, "")


def test_the_count_is_of_the_queue_and_zero_without_a_table(make_driver, database):
    driver, other = make_driver(database.dsn), make_driver(database.dsn, queue="other")
    assert driver.count() == (0, 0, "")
    for _ in range(3):
        assert driver.write() == (0, "")
    assert other.write() == (0, "")
    assert driver.count() == (0, 3, "")
    assert other.count() == (0, 1, "")


def test_counting_keeps_its_connection_and_makes_a_new_one_when_it_must(driver, database):
    def pid():
        assert driver.count() == (0, 0, "")
        rows = database.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'mqtt-bridge' "
                              "AND datname = %s", database.name)
        return [row["pid"] for row in rows]
    first = pid()
    assert len(first) == 1 and pid() == first
    database.query("SELECT pg_terminate_backend(%s)", first[0])
    wait_until(lambda: not database.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s", first[0]), 15,
               "the session has ended")
    assert len(pid()) == 1 and pid() != first


def test_counting_without_a_table_is_no_error_in_the_servers_log(make_driver, make_postgres):
    postgres = make_postgres()
    driver = make_driver(postgres.create_database().dsn)
    assert driver.count() == (0, 0, "")
    assert "ERROR" not in postgres.log(), postgres.log_tail()


@pytest.mark.parametrize("table", ["order", "App.Failed"])
def test_the_count_finds_a_table_of_any_name(make_driver, database, table):
    database.query("CREATE SCHEMA app")
    driver = make_driver(database.dsn, table=table)
    assert driver.count() == (0, 0, "")
    assert driver.write() == (0, "")
    assert driver.count() == (0, 1, "")


@pytest.mark.parametrize("dsn, table, said", [
    ("", "t", "DATABASE_URL"),
    ("postgresql://h/d", "a b", "table"),
    ("postgresql://h/d", "a.b.c", "table"),
])
def test_settings_that_cannot_work_are_named(make_driver, dsn, table, said):
    driver = make_driver(dsn, table=table)
    wait_until(driver.answers, 15, "it says why")
    result, text = driver.answers()[0].split(" ", 1)
    assert int(result) == USAGE and said in text
