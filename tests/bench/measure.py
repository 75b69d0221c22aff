"""What a process costs, and what two of them are beside each other."""

import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from bridge.process import children_of  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of all its threads so far; 0 when it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


class Machine:
    """How much of the machine others took since this was made: a number beside others is only worth
    something when the machine was ours."""

    def __init__(self):
        self.busy, self.total, self.unused = self._all()
        self.ours = self._ours()

    @staticmethod
    def _all():
        """Seconds of all CPUs: at work for programs or taken by a hypervisor, altogether, and idle."""
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, idle, iowait, irq, softirq, steal = (int(word) / TICKS for word in words)
        busy = user + nice + system + steal  # irq and softirq are nobody's
        return busy, busy + idle + iowait + irq + softirq, idle + iowait

    @staticmethod
    def _ours():
        return sum(os.times()[:4]) + sum(cpu_seconds(pid) for pid in children_of(os.getpid()))

    def others(self):
        busy, total, _ = self._all()
        passed = total - self.total
        return max(0.0, busy - self.busy - (self._ours() - self.ours)) / passed if passed > 0 else 0.0

    def idle(self):
        """The share of it that nobody used."""
        _, total, unused = self._all()
        return (unused - self.unused) / (total - self.total) if total > self.total else 0.0


@dataclass
class Sample:
    rate: float          # messages a second
    cpu_us: float        # CPU time of the process under test, a message
    idle: float = None   # share of the machine that was, where it matters


@dataclass
class Series:
    """One thing, measured again and again; base: what stands beside it, measured in the same rounds."""
    name: str
    base: "Series" = None
    bar: float = None
    samples: list = field(default_factory=list)

    @property
    def rate(self):
        return statistics.median(sample.rate for sample in self.samples)

    @property
    def cpu_us(self):
        return statistics.median(sample.cpu_us for sample in self.samples)

    @property
    def idle(self):
        shares = [sample.idle for sample in self.samples if sample.idle is not None]
        return statistics.median(shares) if shares else None

    @property
    def ratios(self):
        """Round by round: what disturbs a round disturbs both."""
        return [own.rate / base.rate for own, base in zip(self.samples, self.base.samples)] if self.base else []

    @property
    def ratio(self):
        return statistics.median(self.ratios) if self.base else None

    def as_dict(self):
        return {"name": self.name, "rate": round(self.rate, 1), "cpu_us": round(self.cpu_us, 2), "idle": self.idle,
                "beside": self.base.name if self.base else None,
                "ratio": round(self.ratio, 4) if self.base else None,
                "ratios": [round(ratio, 4) for ratio in self.ratios],
                "samples": [{"rate": round(sample.rate, 1), "cpu_us": round(sample.cpu_us, 2)}
                            for sample in self.samples]}


@dataclass
class Bar:
    """A promise with its measured value."""
    text: str
    value: float
    limit: float
    at_least: bool
    unit: str = ""

    @property
    def met(self):
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self):
        sign = ">=" if self.at_least else "<="
        return (f"{'met' if self.met else 'NOT MET':8} {self.text}: {self.value:.2f}{self.unit} "
                f"({sign} {self.limit:g}{self.unit})")

    def as_dict(self):
        return {"bar": self.text, "value": round(self.value, 4), "limit": self.limit,
                "at_least": self.at_least, "met": self.met}
