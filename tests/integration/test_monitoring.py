"""What operators watch the bridge with: the metrics as Prometheus reads them, the alert rules and the dashboard."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from bridge import build_folder
from bridge.authority import Authority
from bridge.monitor import request

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "etc/prometheus/mqtt-bridge.rules.yml"
DASHBOARD = ROOT / "etc/grafana/mqtt-bridge.json"
REFERENCE = ROOT / "docs/MONITORING.md"
ALERTS_TEST = Path(__file__).parent / "monitoring/alerts_test.yml"
PREFIX = "mqtt_bridge_"


def promtool(*arguments, text=None):
    if shutil.which("promtool") is None:
        pytest.fail("promtool is missing: run `make deps`")
    done = subprocess.run(["promtool", *map(str, arguments)], input=text, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def families(text):
    """The types of the metrics by their names, of Prometheus text."""
    return {name.removeprefix(PREFIX): kind for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)}


def names_in(expression):
    """The metrics that an expression names; a histogram by its family."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(PREFIX + r"([a-z_]+)", expression)}


def expressions():
    """Of the dashboard, with a value for each variable."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(found) > 40
    return [text.replace("$__rate_interval", "5m").replace("$instance", ".*") for text in found]


@pytest.fixture
def metrics(bridge, makers):
    bridge.settings["mqtt"]["ca_file"] = Authority(makers.new_folder("authority")).certificate
    bridge.start()
    return request(bridge, "/metrics").text


def test_promtool_accepts_the_metrics(metrics):
    assert "error" not in promtool("check", "metrics", text=metrics)


def test_the_reference_lists_the_metrics_and_no_others(metrics):
    listed = dict(re.findall(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \|", REFERENCE.read_text(), re.M))
    assert listed == families(metrics)


def test_rules_and_dashboard_name_only_metrics_that_there_are(metrics):
    named = set().union(*map(names_in, [RULES.read_text(), *expressions()]))
    assert named - set(families(metrics)) == set()


def test_the_dashboard_shows_every_metric(metrics):
    shown = set().union(*map(names_in, expressions()))
    assert set(families(metrics)) - shown == {"build_info", "spool_paused"}  # its instances; the seconds are shown


def test_promtool_accepts_the_rules_and_the_dashboard(tmp_path):
    promtool("check", "rules", RULES)
    rules = [{"record": f"dashboard:{number}", "expr": text} for number, text in enumerate(expressions())]
    generated = tmp_path / "dashboard.json"
    generated.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", generated)


def test_each_alert_fires_on_what_it_is_for():
    promtool("test", "rules", ALERTS_TEST)
    tested = set(re.findall(r'alertname="(\w+)"', ALERTS_TEST.read_text()))
    assert tested == set(re.findall(r"alert: (\w+)", RULES.read_text()))


def test_each_alert_says_what_to_do_with_commands_that_there_are():
    alerts = RULES.read_text().split("- alert: ")[1:]
    cli = build_folder() / "mqtt-bridge"
    for alert in alerts:
        assert re.search(r"\n +runbook: \S", alert) and re.search(r"severity: (critical|warning)\}", alert), alert
    for verb in set(re.findall(r"`mqtt-bridge ([a-z]+)", RULES.read_text())):
        subprocess.run([cli, "help", verb], check=True, capture_output=True, timeout=10)
