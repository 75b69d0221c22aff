"""Counts every message: what was sent against what arrived."""

from collections import Counter
from typing import NamedTuple

from .process import wait_until
from .sse import compact


class Account(NamedTuple):
    missing: list    # sent, never seen
    strange: list    # seen, never sent
    repeated: dict   # seen more than once, with how often
    unmarked: list   # repeated under different ids: a page could not tell
    disordered: list # (topic, earlier, later): seen for the first time against the order of sending

    def assert_nothing_lost(self):
        assert not self.missing, f"{len(self.missing)} lost: {self.missing[:10]}"
        assert not self.strange, f"{len(self.strange)} never sent: {self.strange[:10]}"

    def assert_exactly_once(self):
        self.assert_nothing_lost()
        assert not self.repeated, f"{len(self.repeated)} repeated: {list(self.repeated.items())[:10]}"

    def assert_repeats_recognisable(self):
        assert not self.unmarked, f"repeats with another id: {self.unmarked[:10]}"

    def assert_ordered(self):
        assert not self.disordered, f"{len(self.disordered)} out of order: {self.disordered[:10]}"


def account(sent, events):
    """sent: (topic, payload) pairs, each pair once; events: of an SseClient, message documents."""
    wanted = {(topic, str(payload)): number for number, (topic, payload) in enumerate(sent)}
    assert len(wanted) == len(sent), "the messages of an account must differ from each other"
    seen, ids, firsts = Counter(), {}, {}
    disordered = []
    for event in events:
        document = event.document
        payload = document["payload"]
        key = (document["topic"], payload if isinstance(payload, str) else compact(payload))
        seen[key] += 1
        ids.setdefault(key, set()).add(event.id)
        if seen[key] > 1 or key not in wanted:
            continue
        before = firsts.get(key[0])
        if before is not None and wanted[before] > wanted[key]:
            disordered.append((key[0], before[1], key[1]))
        else:
            firsts[key[0]] = key
    return Account(missing=[key for key in wanted if key not in seen],
                   strange=[key for key in seen if key not in wanted],
                   repeated={key: count for key, count in seen.items() if count > 1 and key in wanted},
                   unmarked=[key for key, distinct in ids.items() if len(distinct) > 1],
                   disordered=disordered)


def account_when_seen(sent, sse, timeout=30.0):
    """Waits until the subscriber has every message: the hub may have taken what it has not sent yet."""
    wait_until(lambda: not account(sent, sse.events).missing, timeout,
               lambda: f"every message is seen; missing: {account(sent, sse.events).missing[:10]}", every=0.1)
    return account(sent, sse.events)
