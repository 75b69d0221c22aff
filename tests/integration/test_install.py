"""make install and uninstall: what an operator has written is never theirs to touch."""

import os
import subprocess
from pathlib import Path

import pytest
from bridge import build_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make(folder):
    def run(target):
        subprocess.run(["make", "-s", target, f"BUILD={build_folder()}", f"DESTDIR={folder}", "PREFIX=/usr"], cwd=ROOT,
                       text=True, capture_output=True, check=True)
    return run


def test_installed_programs_run_and_a_reinstall_keeps_edited_settings(make, folder):
    make("install")
    settings = folder / "etc/mqtt-bridge/mqtt-bridge.ini"
    sample = folder / "usr/share/mqtt-bridge/mqtt-bridge.ini"
    assert settings.read_text() == sample.read_text() and settings.stat().st_mode & 0o007 == 0
    version = subprocess.run([folder / "usr/bin/mqtt-bridge", "version"], text=True, capture_output=True, check=True)
    assert version.stdout.startswith("mqtt-bridge ")
    for file in ("web/index.html", "prometheus/mqtt-bridge.rules.yml", "grafana/mqtt-bridge.json"):
        assert (folder / "usr/share/mqtt-bridge" / file).exists()
    assert os.access(folder / "usr/share/mqtt-bridge/examples/python/handler.py", os.X_OK)

    settings.write_text("[mqtt]\npassword = the operator's\n")
    sample.write_text("of an older version")
    make("install")
    assert settings.read_text() == "[mqtt]\npassword = the operator's\n"
    assert sample.read_text() == (ROOT / "etc/mqtt-bridge.ini").read_text()


def test_the_man_pages_that_are_installed_have_no_faults(make, folder):
    make("install")
    for name, word in [("man1/mqtt-bridge.1", "drain and end the bridge"), ("man5/mqtt-bridge.ini.5", "MESSENGER_TRANSPORT_DSN")]:
        page = folder / "usr/share/man" / name
        shown = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-P-cbou", page], capture_output=True, check=True)
        assert shown.stderr == b""
        assert word in " ".join(shown.stdout.decode().split())


@pytest.mark.parametrize("line, words", [
    (["sca"], ["scale"]),
    (["status", "--w"], ["--watch"]),
    (["--config", "x.ini", "spool", "re"], ["resend", "remove"]),
    (["health", "--js"], []),
    (["help", "heal"], ["health"]),
    (["--config", "mqtt-bri"], ["mqtt-bridge.ini"]),
])
def test_the_completion_that_is_installed_knows_verbs_and_options(make, folder, line, words):
    make("install")
    script = ('source "$0"; COMP_WORDS=(mqtt-bridge "$@"); COMP_CWORD=$#; _mqtt_bridge; printf "%s\\n" "${COMPREPLY[@]}"')
    result = subprocess.run(["bash", "-uc", script, folder / "usr/share/bash-completion/completions/mqtt-bridge", *line],
                            cwd=folder / "usr/share/mqtt-bridge", text=True, capture_output=True, check=True)
    assert result.stderr == "" and result.stdout.split() == words


def test_uninstall_leaves_the_settings_and_nothing_else(make, folder):
    make("install")
    make("uninstall")
    left = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert left == [Path("etc/mqtt-bridge/mqtt-bridge.ini")]
