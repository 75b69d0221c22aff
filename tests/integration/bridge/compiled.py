"""Small C programs of the tests, linked against the archive of the programs under test, with their sanitizers."""

import fcntl
import os
import pathlib
import subprocess

from .program import build_folder

ROOT = pathlib.Path(__file__).resolve().parents[3]
LIBRARIES = ["libpq", "libcurl", "libssl", "libcrypto", "hiredis", "libcjson"]


def once(name, make):
    """The path NAME in the folder of the run. The first worker that asks makes it, by make(path); the others wait."""
    path = pathlib.Path(os.environ["MQTT_BRIDGE_WORKSPACE"]) / name
    with open(f"{path}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = pathlib.Path(f"{path}.made")
        if not made.exists():
            make(path)
            made.touch()
    return path


def version():
    """The version of the programs under test: an upgrade requires the same of all programs."""
    result = subprocess.run([build_folder() / "mqtt-bridge", "version"], text=True, capture_output=True, check=True)
    return result.stdout.split()[1]


def _sanitizers(archive):
    symbols = subprocess.run(["nm", archive], text=True, capture_output=True, check=True).stdout
    if "__asan_" in symbols:
        return ["-fsanitize=address,undefined"]
    return ["-fsanitize=thread"] if "__tsan_" in symbols else []


def compile_program(path, sources, as_version=None):
    """sources: C files, below the project's folder. Those with a version of their own are compiled as as_version."""
    archive = pathlib.Path(build_folder()) / "libcommon.a"
    assert archive.exists(), f"{archive} is missing: run `make BUILD={build_folder()} all` first"
    libraries = subprocess.run(["pkg-config", "--libs", *LIBRARIES], text=True, capture_output=True, check=True)
    command = ["gcc", "-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-D_GNU_SOURCE", f"-I{ROOT}",
               f'-DMQTT_BRIDGE_VERSION="{as_version or version()}"', *_sanitizers(archive), "-o", path,
               *(ROOT / source for source in sources), archive, *libraries.stdout.split(), "-lm", "-lpthread"]
    result = subprocess.run(command, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
