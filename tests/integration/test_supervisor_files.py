"""A supervisor that root starts, and the user that it becomes. What it makes for that user, and what it does not take
from root. No link of the user leads root elsewhere. Without root there is nobody else to be."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import threading

import pytest
from bridge import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


@pytest.fixture
def owned(make_stubs):
    """Stubs that run as nobody, whose state folder is nobody's already."""
    stubs = make_stubs(settings={"supervisor": {"user": "nobody"}})
    for path in (stubs.folder.parent, stubs.folder):
        path.chmod(0o755)
    stubs.stub_dir.chmod(0o777)
    stubs.socket = stubs.folder / "run" / "control.sock"
    stubs.settings["supervisor"]["socket"] = stubs.socket
    stubs.state_dir.mkdir()
    shutil.chown(stubs.state_dir, "nobody")
    return stubs


@pytest.fixture
def victim(folder):
    """A file of root's."""
    path = folder / "victim"
    path.write_text("precious\n")
    path.chmod(0o600)
    yield path
    assert path.read_text() == "precious\n"
    assert path.stat().st_uid == 0 and path.stat().st_mode & 0o777 == 0o600


def link(path, target):
    path.symlink_to(target)
    os.lchown(path, pwd.getpwnam("nobody").pw_uid, -1)


def is_refused(stubs, *texts):
    stubs.start(wait=False)
    assert stubs.supervisor.wait() == 2, stubs.log()
    assert all(text in stubs.log() for text in texts), stubs.log()


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def test_the_supervisor_and_its_children_have_no_right_of_roots(owned):
    owned.start()
    nobody = pwd.getpwnam("nobody")
    for pid in [owned.supervisor.pid, *(p["pid"] for p in owned.ask("status")["processes"])]:
        status = status_of(pid)
        assert set(status["Uid"]) == {str(nobody.pw_uid)} and set(status["Gid"]) == {str(nobody.pw_gid)}
        assert "0" not in status["Groups"]
        assert status["NoNewPrivs"] == ["1"] and int(status["CapPrm"][0], 16) == 0
    assert owned.run_cli("status").returncode == 0
    owned.stop()


def test_an_upgrade_goes_on_as_the_user_that_root_has_become(owned):
    root_folder = owned.folder / "roots"
    root_folder.mkdir()
    owned.settings["supervisor"]["pid_file"] = root_folder / "bridge.pid"
    owned.start()
    before = owned.find("consumer")["pid"]
    result = owned.run_cli("upgrade")
    assert result.returncode == 0, result.stderr
    process = owned.find("consumer")
    assert process["pid"] != before
    assert process["memory_bytes"] > 1024 * int(status_of(process["pid"])["RssAnon"][0]), "PSS may be read"
    assert set(status_of(owned.supervisor.pid)["Uid"]) == {str(pwd.getpwnam("nobody").pw_uid)}
    assert (root_folder / "bridge.pid").read_text() == f"{owned.supervisor.pid}\n"
    owned.settings["supervisor"]["user"] = "daemon"
    owned.write_config()
    result = owned.run_cli("upgrade")
    assert result.returncode == 1 and "only root can run the bridge as daemon" in result.stderr
    assert owned.find("consumer")["pid"] == process["pid"]
    owned.stop()


def test_a_bridge_of_root_without_a_user_sets_no_new_privs(stubs):
    stubs.start()
    for pid in [stubs.supervisor.pid, *(p["pid"] for p in stubs.ask("status")["processes"])]:
        assert status_of(pid)["NoNewPrivs"] == ["1"]
    assert "The bridge runs as root" in stubs.log()


@pytest.mark.parametrize("user, said", [("nobodyelse", "there is no such user"), ("4242", "4242:GROUP"),
                                        ("nobody:nogroups", "there is no such group")])
def test_a_user_that_is_not_there_is_refused(owned, user, said):
    owned.settings["supervisor"]["user"] = user
    is_refused(owned, "[supervisor] user: ", said)


@pytest.mark.parametrize("user, home", [("nobody", pwd.getpwnam("nobody").pw_dir), ("4242:4242", None)])
def test_the_home_of_root_is_not_passed_on(owned, user, home):
    owned.settings["supervisor"]["user"] = user
    owned.env["HOME"] = "/root"
    shutil.chown(owned.state_dir, user="nobody" if user == "nobody" else 4242)
    owned.start()
    for process in owned.ask("status")["processes"]:
        environment = pathlib.Path(f"/proc/{process['pid']}/environ").read_text().split("\0")
        assert [text for text in environment if text.startswith("HOME=")] == ([f"HOME={home}"] if home else [])


def test_a_users_number_brings_the_group_of_that_user(owned):
    user = pwd.getpwnam("games")
    assert user.pw_uid != user.pw_gid
    shutil.chown(owned.state_dir, user.pw_uid)
    owned.settings["supervisor"]["user"] = user.pw_uid
    owned.start()
    assert set(status_of(owned.supervisor.pid)["Gid"]) == {str(user.pw_gid)}


def test_a_state_folder_of_another_is_refused_and_left_as_it_is(owned):
    owned.settings["supervisor"]["state_dir"] = srv = owned.folder / "srv"
    srv.mkdir()
    srv.chmod(0o755)
    is_refused(owned, f"[supervisor] state_dir: {srv} belongs to user 0", "name a folder of its own")
    assert srv.stat().st_uid == 0 and list(srv.iterdir()) == []


@pytest.mark.parametrize("name", ["supervisor.lock", "bridge.pid", "control.sock"])
def test_a_file_that_an_earlier_version_left_to_root_is_named(owned, name):
    """The folders are the user's; its pid file's is not."""
    owned.settings["supervisor"] |= {"pid_file": owned.folder / "bridge.pid", "socket": owned.state_dir / "control.sock"}
    path = (owned.folder if name == "bridge.pid" else owned.state_dir) / name
    if name == "control.sock":
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
    else:
        path.touch()
    path.chmod(0o600)
    is_refused(owned, f"{path} belongs to user 0", "remove it while no bridge runs")
    assert path.exists()


def test_missing_folders_and_files_are_made_and_given_to_the_user(owned):
    data = owned.folder / "data"
    owned.settings["supervisor"] |= {"state_dir": data / "a" / "state", "pid_file": owned.folder / "bridge.pid"}
    owned.settings["log"]["file"] = log = owned.folder / "bridge.log"
    owned.start()
    nobody = pwd.getpwnam("nobody").pw_uid
    assert (data / "a").stat().st_uid == 0
    assert (data / "a" / "state").stat().st_uid == nobody and (data / "a" / "state").stat().st_mode & 0o777 == 0o700
    assert log.stat().st_uid == nobody and "All processes run" in log.read_text()
    assert int((owned.folder / "bridge.pid").read_text()) == owned.supervisor.pid
    assert owned.stop() == 0
    assert (owned.folder / "bridge.pid").read_text() == "", "which the folder does not let it remove"


@pytest.mark.parametrize("name", ["supervisor.lock", "mqtt.log", "bridge.pid"])
def test_a_users_link_leads_to_no_file_of_roots(owned, victim, name):
    link(owned.state_dir / name, victim)
    owned.settings["log"]["file"] = owned.state_dir / "mqtt.log"
    owned.settings["supervisor"]["pid_file"] = owned.state_dir / "bridge.pid"
    owned.start(wait=False)
    wait_until(lambda: not owned.supervisor.is_running() or (owned.socket.exists() and owned.listens()), 10, owned.log)


@pytest.mark.parametrize("key", ["state_dir", "log"])
def test_root_makes_no_file_behind_a_symlink_of_the_user(owned, folder, key):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    link(owned.state_dir / "link", elsewhere)
    if key == "log":
        owned.settings["log"]["file"] = owned.state_dir / "link" / "mqtt.log"
    else:
        owned.settings["supervisor"]["state_dir"] = owned.state_dir / "link" / "state"
    owned.start(wait=False)
    assert owned.supervisor.wait() != 0
    assert "Permission denied" in owned.log()
    assert list(elsewhere.iterdir()) == [] and elsewhere.stat().st_uid == 0


def test_the_state_folder_may_be_behind_a_link_of_roots(owned):
    disk = owned.folder / "disk"
    disk.mkdir()
    (owned.folder / "data").symlink_to(disk)
    owned.settings["supervisor"]["state_dir"] = owned.folder / "data" / "state"
    owned.start()
    assert (disk / "state").stat().st_uid == pwd.getpwnam("nobody").pw_uid


def test_an_unreadable_ini_is_warned_of_and_refused_at_a_reload(owned):
    owned.write_config()
    owned.config.chmod(0o600)
    owned.start()
    assert f"{owned.config} can't be read by the bridge's user" in owned.log()
    answer = owned.ask("reload")
    assert not answer["ok"] and "Permission denied" in answer["error"]
    assert "let a group of the bridge's user (65534) read it, or restart it" in answer["error"]
    assert owned.ask("health")["ready"]


def test_an_unreadable_secrets_file_is_warned_of(owned, folder):
    owned.settings["mqtt"]["username"] = "u"
    owned.settings["mercure"]["jwt_secret"] = "${HUB_SECRET}"
    for name in ("MQTT_PASSWORD", "HUB_SECRET", "DATABASE_URL"):
        path = folder / name
        path.write_text("postgresql://u@127.0.0.1/d" if name == "DATABASE_URL" else "a secret of its own, long enough")
        path.chmod(0o600 if name != "DATABASE_URL" else 0o644)
        owned.env[f"{name}_FILE"] = path
    folder.chmod(0o755)
    owned.start()
    for name in ("MQTT_PASSWORD", "HUB_SECRET"):
        assert owned.log().count(f"{name}_FILE: {folder / name} can't be read by the bridge's user") == 1, owned.log()
    assert "DATABASE_URL_FILE" not in owned.log()


def test_a_reload_keeps_the_state_folder_that_root_has_by_default(owned):
    """Under a /var/lib of its own."""
    own_lib = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o mode=755 none /var/lib && exec "$@"', "sh"]
    if subprocess.run([*own_lib, "true"], capture_output=True).returncode != 0:
        pytest.skip("takes the right to mount")
    owned.supervisor.arguments = [*own_lib, *owned.supervisor.arguments]
    owned.settings["supervisor"]["state_dir"] = None
    owned.env["HOME"] = ""
    owned.start()
    answer = owned.ask("reload")
    assert answer["ok"], answer
    assert "state_dir: takes effect" not in owned.log()


def test_the_log_is_reopened_where_the_user_may(owned):
    logs = owned.folder / "logs"
    owned.settings["log"]["file"] = log = logs / "bridge.log"
    owned.start()
    log.rename(logs / "bridge.log.1")
    owned.supervisor.send(signal.SIGUSR1)
    wait_until(lambda: log.exists() and "Log reopened" in log.read_text(), 15, "it is made anew")


@pytest.mark.parametrize("device", ["/dev/stdout", "/dev/stderr", "/proc/self/fd/2"])
def test_the_log_may_be_a_standard_descriptor(owned, device):
    owned.settings["log"]["file"] = device
    owned.start()
    assert "All processes run" in owned.log()
    assert owned.supervisor.log_path.stat().st_uid == 0, "which is not ours to give away"


@pytest.mark.parametrize("device", ["/dev/stdout", "/dev/stderr"])
def test_a_log_on_a_standard_descriptor_stays_there_when_reopened(owned, device):
    owned.settings["log"]["file"] = device
    owned.start()
    owned.supervisor.send(signal.SIGUSR1)
    wait_until(lambda: "Log reopened" in owned.log(), 15, "the log line")
    assert owned.stop() == 0
    ends = [line for line in owned.log().splitlines() if "stub ends" in line]
    assert ends and not any("says: " in line for line in ends), "the children write to it themselves"


def test_the_log_may_be_a_fifo(owned):
    fifo = owned.folder / "log.fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    owned.settings["log"]["file"] = fifo
    lines = []

    def read():
        with open(fifo, errors="replace") as reader:
            lines.extend(reader)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    owned.start()
    wait_until(lambda: any("All processes run" in line for line in lines), 10, "it is read")
    assert owned.stop() == 0
    reader.join(10)
    assert any("Stopped" in line for line in lines)


def test_a_fifo_that_nobody_reads_is_no_log(owned):
    fifo = owned.folder / "log.fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    owned.settings["log"]["file"] = fifo
    owned.start(wait=False)
    assert owned.supervisor.wait() == 1
    assert f"[log] file: {fifo}" in owned.log()
