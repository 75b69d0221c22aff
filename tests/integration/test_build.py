"""The Makefile and tools/deps.sh: what is built and installed, and when anew."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments):
    """What make prints; the environment of a make around this test must not reach it."""
    clean = ["env", "-u", "CI", "-u", "MAKEFLAGS", "-u", "MAKELEVEL"]
    return subprocess.run([*clean, "make", *map(str, arguments)], cwd=ROOT, text=True, capture_output=True,
                          check=True).stdout


def packages(purpose):
    return set(subprocess.run([ROOT / "tools/deps.sh", "--list", purpose], text=True, capture_output=True,
                              check=True).stdout.split())


def test_a_change_of_flags_compiles_anew_and_nothing_else_does(tmp_path):
    target = tmp_path / "common/base/clock.o"
    build = [f"BUILD={tmp_path}", "V=1", target]
    assert "gcc" in make(*build, "CC=gcc", "CFLAGS=-O0")
    assert "gcc" not in make(*build, "CC=gcc", "CFLAGS=-O0")
    assert "-O1" in make(*build, "CC=gcc", "CFLAGS=-O1")
    assert "-Werror" in make(*build, "CC=gcc", "CFLAGS=-O1", "CI=true")
    assert "-DOTHER" in make(*build, "CC=gcc", "CFLAGS=-O1", "CPPFLAGS=-DOTHER")


def test_the_build_shows_one_line_for_each_file_and_no_command(tmp_path):
    build = [f"BUILD={tmp_path}", tmp_path / "common/base/clock.o"]
    assert make(*build) == "  CC common/base/clock.c\n"
    assert make("-s", "-B", *build) == ""


def test_a_unit_test_builds_only_the_program_that_it_tests(tmp_path):
    plan = make("-n", f"BUILD={tmp_path}", tmp_path / "tests/unit/test_bytes")
    assert "libcommon.a" in plan and "libworker.a" not in plan
    plan = make("-n", f"BUILD={tmp_path}", tmp_path / "tests/unit/test_lane")
    assert "libworker.a" in plan and "libsupervisor.a" not in plan
    plan = make("-n", f"BUILD={tmp_path}", tmp_path / "tests/unit/test_spool")
    assert "libconsumer.a" in plan and "libworker.a" not in plan


def test_the_demo_installs_no_browser_analyser_or_php():
    demo = packages("demo")
    assert {"mosquitto", "redis-server", "postgresql", "golang-go"} <= demo
    assert not [name for name in demo if name.startswith(("chromium", "clang", "cppcheck", "php", "nginx"))]
    assert demo < packages("test") < packages("all")
