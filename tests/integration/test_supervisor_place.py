"""What the supervisor opens, makes and gives away as root, in folders that the children's user can write: nothing
that this user has put there may lead it elsewhere. Without root there is nobody else to be."""

import os
import pwd
import shutil
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


def hard_link(path, target):
    path.hardlink_to(target)


def is_refused(stubs, *texts):
    stubs.start(wait=False)
    assert stubs.supervisor.wait() == 2
    assert all(text in stubs.log() for text in texts), stubs.log()


@pytest.mark.parametrize("make, said", [(link, "is a link that root has not made"), (hard_link, "has a second name")])
def test_the_users_link_in_the_place_of_the_lock_is_not_written_through(owned, victim, make, said):
    make(owned.state_dir / "supervisor.lock", victim)
    is_refused(owned, "[supervisor] state_dir", "supervisor.lock", said)


@pytest.mark.parametrize("make, said", [(link, "is a link that root has not made"), (hard_link, "has a second name")])
def test_the_users_link_in_the_place_of_the_log_is_neither_written_nor_given_away(owned, victim, make, said):
    log = owned.state_dir / "mqtt.log"
    make(log, victim)
    owned.settings["log"]["file"] = log
    is_refused(owned, "[log] file", "mqtt.log", said)


def test_a_folder_of_the_user_that_leads_elsewhere_is_not_entered(owned, folder):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    link(owned.state_dir / "logs", elsewhere)
    owned.settings["log"]["file"] = owned.state_dir / "logs" / "mqtt.log"
    is_refused(owned, '"logs" is a link that root has not made')
    owned.settings["log"]["file"] = None
    owned.settings["supervisor"]["state_dir"] = owned.state_dir / "logs"
    is_refused(owned, "[supervisor] state_dir", '"logs" is a link')
    assert list(elsewhere.iterdir()) == [] and elsewhere.stat().st_uid == 0


def test_a_file_of_roots_in_the_users_folder_is_not_given_away(owned, victim):
    log = owned.state_dir / "mqtt.log"
    log.write_text("from before\n")
    owned.settings["log"]["file"] = log
    owned.start()
    assert log.stat().st_uid == 0 and "Everything runs" in log.read_text()


def test_the_pid_file_replaces_what_the_user_has_put_there(owned, victim):
    pid_file = owned.state_dir / "bridge.pid"
    link(pid_file, victim)
    link(owned.state_dir / "bridge.pid.new", victim)
    owned.settings["supervisor"]["pid_file"] = pid_file
    owned.start()
    assert not pid_file.is_symlink() and int(pid_file.read_text()) == owned.supervisor.pid
    assert owned.stop() == 0 and not pid_file.exists()


def test_the_log_and_the_state_folder_may_be_behind_links_of_roots(owned):
    disk = owned.folder / "disk"
    (disk / "logs").mkdir(parents=True)
    (owned.folder / "logs").symlink_to("disk/logs")
    (disk / "logs" / "now.log").symlink_to(disk / "logs" / "today.log")
    (owned.folder / "data").symlink_to(disk)
    owned.settings["log"]["file"] = owned.folder / "logs" / "now.log"
    owned.settings["supervisor"]["state_dir"] = owned.folder / "data" / "a" / "state"
    owned.start()
    owner = owned.state_dir.stat().st_uid
    assert "Everything runs" in (disk / "logs" / "today.log").read_text()
    assert (disk / "logs" / "today.log").stat().st_uid == owner
    assert (disk / "a" / "state").stat().st_uid == owner and (disk / "a").stat().st_uid == 0
    assert (disk / "a" / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("device", ["/dev/stdout", "/dev/stderr", "/proc/self/fd/2"])
def test_the_log_may_be_a_standard_descriptor(owned, device):
    owned.settings["log"]["file"] = device
    owned.start()
    assert "Everything runs" in owned.log()
    assert owned.supervisor.log_path.stat().st_uid == 0, "which is not ours to give away"


def test_the_log_may_be_a_fifo(owned):
    fifo = owned.folder / "log.fifo"
    os.mkfifo(fifo)
    owned.settings["log"]["file"] = fifo
    lines = []

    def read():
        with open(fifo, errors="replace") as reader:
            lines.extend(reader)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    owned.start()
    wait_until(lambda: any("Everything runs" in line for line in lines), 10, "it is read")
    assert owned.stop() == 0
    reader.join(10)
    assert any("Stopped" in line for line in lines)
