"""check, config, --help and exit codes, through the real program and against real servers."""

import json
import os
import pty
import subprocess

import pytest

from bridge.process import free_port
from bridge.program import ROOT, build_folder

PROGRAM = build_folder() / "mqtt-bridge"
PROGRAMS = ["supervisor", "consumer", "worker", "monitor"]
GOOD = """\
[mercure]
url = http://127.0.0.1/.well-known/mercure
jwt_secret = 0123456789abcdef0123456789abcdef
[failure]
dsn = postgresql://user:hunter2@127.0.0.1/app
"""
BAD = """\
[mqtt]
prot = 1883
port = 99999
[worker]
count = -1
"""


def run(*arguments, program=PROGRAM, env=None, cwd=None):
    """The program with nothing of the caller's environment but what it needs to run at all."""
    clean = {name: value for name, value in os.environ.items()
             if name in ("PATH", "HOME", "LD_LIBRARY_PATH") or name.endswith("SAN_OPTIONS")}
    return subprocess.run([program, *map(str, arguments)], text=True, capture_output=True, timeout=30,
                          env={**clean, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL)


@pytest.fixture
def ini(folder):
    def write(text):
        path = folder / "x.ini"
        path.write_text(text)
        path.chmod(0o600)
        return path
    return write


def test_help_lists_the_verbs_and_each_verb_explains_itself():
    program = run("--help")
    assert program.returncode == 0 and program.stderr == ""
    for verb in ("run", "check", "config", "status", "top", "start", "stop", "restart", "scale", "reload",
                 "health", "version"):
        assert f"\n  {verb} " in program.stdout
        own = run(verb, "--help")
        assert own.returncode == 0 and own.stdout.startswith("Usage: mqtt-bridge [--config FILE] " + verb)
    assert "--connect" in run("check", "--help").stdout


def test_help_is_a_verb_too_and_explains_others():
    assert run("help").stdout == run("--help").stdout == run("-h").stdout
    assert run("help", "check").stdout == run("check", "--help").stdout
    wrong = run("help", "chek")
    assert wrong.returncode == 2 and "did you mean `check`?" in wrong.stderr
    assert "--template" in run("help", "config").stdout


def test_without_a_verb_a_terminal_gets_help_and_a_service_the_bridge(ini, folder):
    here, terminal = pty.openpty()
    result = subprocess.run([PROGRAM], stdin=terminal, text=True, capture_output=True, timeout=30)
    os.close(here)
    os.close(terminal)
    assert result.returncode == 0 and result.stdout == run("help").stdout
    assert run("--config", ini(BAD), cwd=folder).returncode == 2


@pytest.mark.parametrize("verb", ["check", "config", "status", "run"])
def test_the_program_names_itself_before_each_error(ini, verb):
    result = run("--config", ini(BAD), verb)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines and all(line.startswith("mqtt-bridge") for line in lines), result.stderr


@pytest.mark.parametrize("count", ["-1", "many", "1.5"])
def test_scale_refuses_a_count_that_is_no_whole_number(count):
    result = run("scale", count)
    assert result.returncode == 2
    assert result.stderr == f"mqtt-bridge: scale {count}: takes how many workers are to run, a number from 0\n"


@pytest.mark.parametrize("program, takes, refuses", [("consumer", "--name", "--slot"), ("worker", "--slot", "--name"),
                                                     ("monitor", "--config", "--slot")])
def test_a_program_lists_the_options_that_it_takes(program, takes, refuses):
    path = build_folder() / f"mqtt-bridge-{program}"
    help_text = run("--help", program=path).stdout
    assert takes in help_text and refuses not in help_text
    result = run(refuses, "1", program=path)
    assert result.returncode == 2 and f"has no option `{refuses}`; it has {takes}" in result.stderr


def test_version_is_printed_both_ways():
    text = run("--version")
    assert run("-v").stdout == text.stdout
    assert text.returncode == 0 and text.stdout.startswith("mqtt-bridge ")
    assert json.loads(run("version", "--json").stdout)["version"] == text.stdout.split()[1]


def test_unknown_verbs_and_options_exit_2_and_name_the_nearest():
    verb = run("chek")
    assert verb.returncode == 2 and "did you mean `check`?" in verb.stderr
    option = run("check", "--conect")
    assert option.returncode == 2 and "did you mean `--connect`?" in option.stderr
    assert run("scale").returncode == 2


# What `check` misses otherwise, and names behind the faults of the file.
HUB = {"MERCURE_URL": "http://hub/.well-known/mercure", "MERCURE_JWT_SECRET": "0123456789" * 4}


def test_check_names_every_fault_with_file_line_and_key(ini):
    path = ini(BAD)
    result = run("--config", path, "check", env={"MQTT_QOS": "7", **HUB})
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.splitlines() == [
        f"mqtt-bridge: {path}:2: [mqtt] prot: unknown key; did you mean `port`?",
        f"mqtt-bridge: {path}:3: [mqtt] port: must be a whole number from 1 to 65535, not `99999`",
        f"mqtt-bridge: {path}:5: [worker] count: must be auto or a whole number from 0 to 200, not `-1`",
        "mqtt-bridge: environment MQTT_QOS: [mqtt] qos: must be a whole number from 0 to 2, not `7`",
    ]


def test_check_says_the_same_as_json(ini):
    result = run("check", "--json", "--config", ini(BAD), env=HUB)
    report = json.loads(result.stdout)
    assert result.returncode == 2 and report["ok"] is False and len(report["faults"]) == 3
    good = run("check", "--json", "--config", ini(GOOD))
    assert good.returncode == 0, good.stdout
    assert json.loads(good.stdout) == {"ok": True, "file": str(ini(GOOD)), "faults": [], "warnings": []}


def test_check_finds_bad_filters_dsns_and_tokens(ini):
    path = ini("[mqtt]\ntopics = a/#/b\n[transport:async]\ndsn = redis://h/m?foo=1\n"
               "[failure]\ndsn = mysql://u:hunter2@h/x\n[mercure]\nurl = http://hub/\njwt_secret = short\n")
    result = run("check", "--config", path)
    assert result.returncode == 2
    for start in (f"{path}:2: [mqtt] topics: ", f"{path}:4: [transport:async] dsn: ", f"{path}:6: [failure] dsn",
                  f"{path}:9: [mercure] jwt_secret"):
        assert any(line.startswith(f"mqtt-bridge: {start}") for line in result.stderr.splitlines()), result.stderr
    assert "hunter2" not in result.stderr


def test_check_without_a_file_says_where_to_get_one():
    result = run("check")
    assert result.returncode == 2 and "`mqtt-bridge config --template` prints one" in result.stderr


def test_a_missing_file_is_a_fault_only_if_it_was_named(folder):
    result = run("check", "--config", folder / "none.ini")
    assert result.returncode == 2 and "No such file or directory" in result.stderr
    assert run("config", env={"MQTT_BRIDGE_CONFIG": str(folder / "none.ini")}).returncode == 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_starts_with_bad_settings(program, ini, folder):
    result = run("--config", ini(BAD), program=build_folder() / f"mqtt-bridge-{program}", cwd=folder)
    assert result.returncode == 2, result.stderr
    assert "did you mean `port`?" in result.stderr and "[worker] count" in result.stderr


def test_run_and_no_verb_start_the_supervisor(ini, folder):
    result = run("run", "--config", ini(BAD), cwd=folder)
    assert result.returncode == 2 and "did you mean `port`?" in result.stderr
    assert run("--config", ini(BAD), cwd=folder).returncode == 2


def test_config_shows_each_value_with_its_origin(ini):
    path = ini(GOOD + "[mqtt]\nhost = ${BROKER:-broker.example.org}\nqos = 2\n")
    result = run("config", "--config", path, env={"MQTT_QOS": "0", "MQTT_TLS": "on", "WORKER_COUNT": ""})
    assert result.returncode == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert f"host = broker.example.org ; {path}:7" in lines
    assert "qos = 0 ; environment MQTT_QOS" in lines
    assert "port = 8883 ; default with TLS" in lines
    assert "count = 2 ; default" in lines
    assert f"dsn = postgresql://user:***@127.0.0.1/app ; {path}:5" in lines
    assert f"; jwt_secret = *** ; {path}:3" in lines


def test_an_ini_with_secrets_that_everybody_may_read_is_warned_of(ini):
    path = ini(GOOD)
    assert run("check", "--config", path).stderr == ""
    path.chmod(0o644)
    assert run("check", "--config", path).stderr == (
        f"mqtt-bridge: warning: {path}:3: everybody on this machine can read this secret: chmod o-r {path}\n")
    path.write_text(GOOD.replace("0123456789abcdef0123456789abcdef", "${KEY}").replace("hunter2", "${PASSWORD}"))
    assert run("check", "--config", path, env={"KEY": "0123456789" * 4, "PASSWORD": "x"}).stderr == ""


def test_check_names_a_variable_that_goes_before_the_file(ini):
    path = ini(GOOD + "[http]\nlisten = off\n")
    result = run("check", "--config", path, env={"HTTP_LISTEN": "127.0.0.1:9081"})
    assert result.returncode == 0
    assert result.stderr == f"mqtt-bridge: warning: environment HTTP_LISTEN: goes before `listen` in {path}:7\n"


def test_config_as_json_has_typed_values_and_no_secret(ini, folder):
    secret = folder / "secret"
    secret.write_text("hunter3\n")
    result = run("config", "--json", "--config", ini(GOOD + "[consumer:garden]\ntopics = garden/#\n"),
                 env={"MQTT_USERNAME": "u", "MQTT_PASSWORD_FILE": str(secret)})
    shown = json.loads(result.stdout)
    assert shown["mqtt"]["port"] == {"value": 1883, "origin": "default"}
    assert shown["mqtt"]["password"] == {"value": "***", "origin": f"MQTT_PASSWORD_FILE {secret}"}
    assert shown["mqtt"]["tls_verify"]["value"] is True
    assert shown["consumer:garden"]["username"] == {"value": "u", "origin": "[mqtt]"}
    assert shown["consumer:garden"]["client_id"]["value"] == "mqtt-bridge-garden"
    assert "hunter" not in result.stdout


def test_output_of_config_is_an_ini_with_the_same_values(ini, folder):
    first = run("config", "--config", ini("[mqtt]\ntopics = a/#, b\n[retry]\njitter = 0.25\n[log]\nfile = x\n"))
    again = folder / "again.ini"
    again.write_text(first.stdout)
    second = run("config", "--config", again)
    assert second.returncode == 0, second.stderr
    values = [[line.split(";")[0].strip() for line in text.splitlines()] for text in (first.stdout, second.stdout)]
    assert values[0] == values[1]


def test_app_env_chooses_the_logs_defaults():
    prod = json.loads(run("config", "--json", env={"APP_ENV": "prod"}).stdout)["log"]
    assert (prod["format"]["value"], prod["file"]["value"]) == ("json", "")
    dev = json.loads(run("config", "--json", env={"APP_ENV": "dev"}).stdout)["log"]
    assert dev["file"]["value"] == "var/log/mqtt.log"


def test_generated_files_are_what_the_program_prints():
    assert run("config", "--template").stdout == (ROOT / "etc/mqtt-bridge.ini").read_text()
    reference = (ROOT / "docs/SETTINGS.md").read_text()
    assert run("config", "--reference").stdout == reference[reference.index("## ["):]


def test_verbs_that_ask_the_bridge_exit_3_when_it_is_not_running(ini, folder):
    path = ini(f"[supervisor]\nsocket = {folder}/none.sock\nstate_dir = {folder}\n")
    for verb in (["status"], ["stop"], ["reload"], ["restart"], ["scale", "2"], ["health"]):
        result = run("--config", path, *verb)
        assert result.returncode == 3, (verb, result)


def test_quiet_health_prints_nothing_whatever_is_wrong(ini, folder):
    settings = f"[supervisor]\nsocket = {folder}/none.sock\nstate_dir = {folder}\n"
    for path, code in ((ini(settings), 3), (folder / "none.ini", 2)):
        loud, quiet = run("--config", path, "health"), run("--config", path, "health", "-q")
        assert loud.returncode == code and loud.stderr
        assert (quiet.returncode, quiet.stdout, quiet.stderr) == (code, "", "")


def connect(path, env=None):
    result = run("check", "--connect", "--json", "--config", path, env=env)
    report = json.loads(result.stdout)
    return result.returncode, {server["name"]: server for server in report.get("servers", [])}, report


def good_settings(mosquitto, redis, hub, database, mqtt=""):
    return (f"[mqtt]\nport = {mosquitto.port}\n{mqtt}[transport:async]\ndsn = {redis.dsn()}\n"
            f"[failure]\ndsn = {database.dsn}\n[mercure]\nurl = {hub.url}\njwt_secret = {hub.publisher_key}\n")


def test_connect_finds_every_server_well(ini, mosquitto, redis, hub, database):
    code, servers, report = connect(ini(good_settings(mosquitto, redis, hub, database)))
    assert code == 0 and report["ok"], report
    assert sorted(servers) == ["broker", "failure transport", "hub", "redis"]
    assert all(server["ok"] for server in servers.values())


def test_connect_names_each_server_that_is_away(ini):
    port = free_port()
    path = ini(f"[mqtt]\nport = {port}\n[transport:async]\ndsn = redis://127.0.0.1:{port}/messages\n"
               f"[failure]\ndsn = postgresql://u:hunter2@127.0.0.1:{port}/x\n"
               f"[mercure]\nurl = http://127.0.0.1:{port}/\njwt_secret = 0123456789abcdef0123456789abcdef\n")
    code, servers, report = connect(path)
    assert code == 1 and not report["ok"]
    assert [server["ok"] for server in servers.values()] == [False] * 4
    assert "MQTT_HOST" in servers["broker"]["text"] and "refused" in servers["broker"]["text"]
    assert "DATABASE_URL" in servers["failure transport"]["text"]
    assert "hunter2" not in json.dumps(report)
    text = run("check", "--connect", "--config", path)
    assert text.returncode == 1 and f"broker tcp://127.0.0.1:{port}: failed" in text.stdout


def test_connect_reports_a_wrong_token_and_a_wrong_stream(ini, mosquitto, redis, hub, database):
    redis.client.set("messages", "a string")
    path = ini(good_settings(mosquitto, redis, hub, database)
               .replace(hub.publisher_key, "0123456789abcdef0123456789abcdef"))
    code, servers, _ = connect(path)
    assert code == 1
    assert not servers["redis"]["ok"] and "is a string, not a stream" in servers["redis"]["text"]
    assert not servers["hub"]["ok"] and "MERCURE_JWT_SECRET" in servers["hub"]["text"]
    assert servers["broker"]["ok"] and servers["failure transport"]["ok"]


def test_connect_distinguishes_bad_credentials_from_good_ones(ini, make_mosquitto, make_redis, hub, database):
    mosquitto = make_mosquitto(users={"bridge": "right"})
    redis = make_redis(password="secret")
    settings = good_settings(mosquitto, redis, hub, database, mqtt="username = bridge\npassword = ${BROKER}\n")
    code, servers, _ = connect(ini(settings), env={"BROKER": "right"})
    assert code == 0, servers
    code, servers, report = connect(ini(settings.replace(":secret@", ":hunter2@")), env={"BROKER": "hunter2"})
    assert code == 1
    assert not servers["broker"]["ok"] and "MQTT_PASSWORD" in servers["broker"]["text"]
    assert not servers["redis"]["ok"] and "WRONGPASS" in servers["redis"]["text"]
    assert "hunter2" not in json.dumps(report)


def test_connect_warns_of_a_redis_that_forgets(ini, mosquitto, redis, hub, database):
    redis.client.config_set("maxmemory-policy", "allkeys-lru")
    redis.client.config_set("appendonly", "no")
    code, servers, _ = connect(ini(good_settings(mosquitto, redis, hub, database)))
    assert code == 0
    assert "maxmemory-policy" in servers["redis"]["text"] and "appendonly is off" in servers["redis"]["text"]


def test_check_connect_leaves_no_key_and_no_table_behind(ini, mosquitto, redis, hub, database):
    assert connect(ini(good_settings(mosquitto, redis, hub, database)))[0] == 0
    assert redis.client.keys() == []
    assert database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
