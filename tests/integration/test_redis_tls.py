"""TLS to Redis: what passes, what is refused and in which words, and certificates that are replaced."""

import shutil
import socket
import time

import pytest
from bridge.authority import Authority
from bridge.consumer import assert_all, numbered
from bridge.process import port_is_open
from bridge.redis_kinds import TlsRedis


@pytest.fixture
def authority(authority):
    return authority.sign("client")


@pytest.fixture
def make_tls_redis(makers, authority):
    return lambda *arguments, **options: makers.keep(
        TlsRedis(makers.new_folder("redis"), options.pop("signed_by", authority), arguments=arguments, **options)).start()


def test_the_whole_bridge_runs_over_tls_with_client_certificates(make_bridge, make_tls_redis, authority, mosquitto,
                                                                 hub, database, publisher, sse):
    redis = make_tls_redis(clients=True)
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=hub, database=database)
    files = {"ssl_cafile": authority.certificate, "ssl_local_cert": authority.folder / "client.pem",
             "ssl_local_pk": authority.folder / "client.key"}
    bridge.settings["transport:async"]["dsn"] = redis.dsn(**files)
    bridge.start()
    sent = numbered(3000)
    publisher.publish_all(sent)
    sse.wait_count(3000, 30)
    redis.wait_drained()
    assert bridge.cli("check", "--connect").returncode == 0
    assert bridge.get("/readyz")[0] == 200


def test_valid_certificates_pass(check, make_tls_redis, authority):
    redis = make_tls_redis(clients=True)
    folder = authority.folder
    ours = {"ssl_cafile": authority.certificate, "ssl_local_cert": folder / "client.pem",
            "ssl_local_pk": folder / "client.key"}
    assert check(redis.dsn(**ours)) == (True, "")
    assert check(redis.dsn(scheme="valkeys", **ours)) == (True, "")
    # Key and certificate in one file, the key under a passphrase; authorities as a folder.
    authority.openssl("ec", "-in", "client.key", "-aes256", "-passout", "pass:let me in", "-out", "locked.key")
    (folder / "both.pem").write_text((folder / "client.pem").read_text() + (folder / "locked.key").read_text())
    (folder / "authorities").mkdir()
    shutil.copy(authority.certificate, folder / "authorities")
    authority.openssl("rehash", folder / "authorities")
    one_file = {"ssl_capath": folder / "authorities", "ssl_local_cert": folder / "both.pem"}
    assert check(redis.dsn(**one_file, ssl_passphrase="let%20me%20in")) == (True, "")
    ok, text = check(redis.dsn(**one_file, ssl_passphrase="wrong"))
    assert not ok and "ssl[passphrase]" in text and "both.pem" in text
    ours.pop("ssl_cafile")
    assert check(redis.dsn(**ours, ssl_verify_peer=0))[0]


def test_each_tls_refusal_names_the_option_to_change(check, make_tls_redis, make_redis, authority, makers):
    redis, plain = make_tls_redis(clients=True), make_redis()
    folder, ca = authority.folder, {"ssl_cafile": authority.certificate}
    other = Authority(makers.new_folder("other"), "another")
    other.sign("client")
    ours = {**ca, "ssl_local_cert": folder / "client.pem", "ssl_local_pk": folder / "client.key"}
    theirs = {**ca, "ssl_local_cert": other.folder / "client.pem", "ssl_local_pk": other.folder / "client.key"}
    refusals = {
        redis.dsn(**ca): ["the server wants a certificate of ours", "ssl[local_cert] and ssl[local_pk]"],
        redis.dsn(**theirs): ["the server does not take our certificate", str(other.folder / "client.pem")],
        redis.dsn(**{**ours, "ssl_cafile": other.certificate}): ["is not trusted", "ssl[cafile] must hold the "
                                                                 "authority that signed it"],
        redis.dsn(host="localhost", **ours): ["is not for localhost, but for IP Address:127.0.0.1", "ssl[peer_name]"],
        redis.dsn(**{**ours, "ssl_cafile": folder / "none.pem"}): ["ssl[cafile]", "none.pem", "No such file"],
        redis.dsn(**{**ours, "ssl_local_pk": other.folder / "client.key"}): ["ssl[local_pk]", "private key"],
        redis.dsn(scheme="redis"): ["write rediss://"],
        redis.dsn(**ours).replace(str(redis.port), str(plain.port)): ["TLS: ", "redis://"],
    }
    for dsn, words in refusals.items():
        ok, text = check(dsn)
        assert not ok and all(word in text for word in words), f"{dsn}: {text}"
    # The name that the certificate has, and none.
    assert check(redis.dsn(host="localhost", ssl_peer_name="127.0.0.1", **ours))[0]
    assert check(redis.dsn(host="localhost", ssl_verify_peer_name="false", **ours))[0]


def test_an_expired_certificate_is_distinguished_from_others(check, make_tls_redis, authority):
    authority.sign("old", days=-1)
    redis = make_tls_redis(certificate="old")
    ok, text = check(redis.dsn(ssl_cafile=authority.certificate))
    assert not ok and "the server's certificate has expired; renew it" in text


def test_a_server_that_signs_for_itself_passes_only_where_allowed(check, make_tls_redis, makers):
    alone = Authority(makers.new_folder("alone"))
    shutil.copy(alone.folder / "ca.pem", alone.folder / "server.pem")
    shutil.copy(alone.folder / "ca.key", alone.folder / "server.key")
    redis = make_tls_redis(signed_by=alone)
    assert "is not trusted (self-signed certificate)" in check(redis.dsn(ssl_verify_peer_name=0))[1]
    assert check(redis.dsn(ssl_verify_peer_name=0, ssl_allow_self_signed=1))[0]


def test_a_server_that_is_silent_in_the_handshake_is_given_up(make_consumer):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        consumer = make_consumer()
        dsn = f"rediss://127.0.0.1:{listener.getsockname()[1]}/messages?timeout=0.3"
        consumer.set("transport:async", dsn=dsn).start()
        consumer.wait_log("TLS: the server is silent in the handshake; is there TLS on that port?", timeout=5)


def test_replaced_certificates_are_taken_at_the_next_connect(make_consumer, make_tls_redis, authority, makers,
                                                             publisher):
    redis = make_tls_redis()
    trusted = authority.folder / "trusted.pem"
    shutil.copy(authority.certificate, trusted)
    consumer = make_consumer(store=redis)
    consumer.set("transport:async", dsn=redis.dsn(ssl_cafile=trusted)).start()
    sent = numbered(400)
    publisher.publish_all(sent[:200])
    consumer.wait_entries(200)
    other = Authority(makers.new_folder("other"), "another")
    other.sign("server")
    redis.stop()
    redis.use(other)
    redis.start()
    publisher.publish_all(sent[200:])
    consumer.wait_log("is not trusted")
    shutil.copy(other.certificate, trusted)
    assert_all(sent, consumer.wait_entries(400))


def test_restarts_under_load_over_tls_lose_and_double_nothing(make_consumer, make_tls_redis, authority, publisher):
    redis = make_tls_redis()
    consumer = make_consumer(store=redis)
    consumer.set("transport:async", dsn=redis.dsn(ssl_cafile=authority.certificate)).start()
    sent = numbered(4000) + [("large", "x" * 300_000 + str(number)) for number in range(20)]
    thread = publisher.start_all(sent, rate=2000)
    for _ in range(2):
        time.sleep(0.5)
        redis.kill()
        redis.start()
    thread.join()
    publisher.wait_confirmed()
    assert port_is_open(redis.port)
    assert_all(sent, consumer.wait_idle(publisher))
