"""Prints the matrix behind a run: a line a way, a column a serializer, of the Symfony that was met."""

import re
import subprocess

from bridge.php import PHP

CELL = re.compile(r"test_matrix\.py::test_(\w+)\[(php|json)\]$")
SERIALIZERS = ("php", "json")
VERSIONS = r"""
foreach (['', 'redis-', 'doctrine-'] as $part) {
    echo 'symfony/', $part, 'messenger ', trim(shell_exec("dpkg-query -W -f '\${Version}' php-symfony-{$part}messenger")), ', ';
}
echo 'PHP ', PHP_VERSION, ', php-redis ', phpversion('redis');
"""


def pytest_terminal_summary(terminalreporter):
    cells = {}
    for outcome, sign in (("passed", "ok"), ("failed", "FAILED"), ("error", "FAILED")):
        for report in terminalreporter.stats.get(outcome, []):
            found = CELL.search(report.nodeid)
            if found and (report.when == "call" or outcome != "passed"):
                cells[found.groups()] = sign
    if not cells:
        return
    versions = subprocess.run([*PHP, "-r", VERSIONS], text=True, capture_output=True, check=True).stdout
    terminalreporter.write_line(f"\n{versions}")
    for way in dict.fromkeys(way for way, _ in cells):
        marks = "".join(f"{serializer} {cells.get((way, serializer), '-'):8}" for serializer in SERIALIZERS)
        terminalreporter.write_line(f"  {way.replace('_', ' '):48} {marks}")
