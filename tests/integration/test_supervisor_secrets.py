"""What a child learns of the settings: what it reads, in its memory of settings, and nothing by its environment."""

import shutil

import pytest
from bridge.process import wait_until
from bridge.stubs import PROGRAMS, Stubs

SECRETS = {"MQTT_PASSWORD": "broker-secret", "DATABASE_URL": "postgresql://u:database-secret@127.0.0.1/d",
           "MERCURE_JWT_SECRET": "hub-secret, which is long enough", "GARDEN_PASSWORD": "garden-secret",
           "MESSENGER_TRANSPORT_DSN": "redis://:queue-secret@127.0.0.1/messages"}
READ = {"consumer": {"broker-secret", "queue-secret"},
        "consumer:garden": {"garden-secret", "queue-secret"},
        "worker": {"database-secret", "hub-secret", "queue-secret"},
        "monitor": {"database-secret", "hub-secret", "queue-secret"}}
ALL = set().union(*READ.values())


@pytest.fixture
def recorded(makers, stub_folder):
    """Stubs whose settings are copied to a file each before they start."""
    programs = makers.new_folder("programs")
    for name in ("mqtt-bridge-supervisor", "mqtt-bridge"):
        shutil.copy(stub_folder / name, programs / name)
    for program in PROGRAMS:
        script = programs / f"mqtt-bridge-{program}"
        script.write_text('#!/bin/sh\ncp "/proc/self/fd/$MQTT_BRIDGE_SETTINGS_FD" "$STUB_DIR/settings-$MQTT_BRIDGE_NAME"\n'
                          f'exec {stub_folder / script.name} "$@"\n')
        script.chmod(0o755)
    stubs = makers.keep(Stubs(programs, makers.new_folder("bridge"), env={**SECRETS, "LOG_LEVEL": "info"}))
    stubs.settings["mercure"] = {"url": "http://127.0.0.1/"}
    stubs.settings["mqtt"] |= {"username": "u"}
    stubs.settings["consumer:garden"] = {"topics": "garden/#", "password": "${GARDEN_PASSWORD}"}
    return stubs.start()


def test_a_child_gets_the_secrets_that_it_reads_and_no_others(recorded):
    for name, read in READ.items():
        text = (recorded.stub_dir / f"settings-{name}").read_text()
        assert {secret for secret in ALL if secret in text} == read, name


def test_a_childs_environment_has_no_setting(recorded):
    for process in recorded.ask("status")["processes"]:
        with open(f"/proc/{process['pid']}/environ", encoding="utf-8") as file:
            variables = dict(text.split("=", 1) for text in file.read().split("\0") if text)
        for name in (*SECRETS, "LOG_LEVEL", "MQTT_BRIDGE_CONFIG"):
            assert name not in variables, process["name"]
        assert variables["STUB_DIR"] == str(recorded.stub_dir), "what is no setting is kept"


def test_a_restarted_child_is_given_what_it_reads_again(recorded):
    before = recorded.find("consumer")["pid"]
    copy = recorded.stub_dir / "settings-consumer"
    copy.unlink()
    recorded.ask("restart", target="consumer")
    recorded.wait_successor("consumer", before)
    wait_until(copy.exists, 15, "it was copied again")
    assert "broker-secret" in copy.read_text()
