"""A Redis whose user `bridge` may do what a test allows: access rules as ACL SETUSER has them."""

import re


def guard(redis, password):
    """Makes the user, who may do nothing yet; returns the server."""
    redis.client.execute_command("ACL", "SETUSER", "bridge", "on", f">{password}")
    return redis


def allow(redis, *rules):
    redis.client.execute_command("ACL", "SETUSER", "bridge", *rules)


def rules_of(text):
    """What `check --connect` says that would mend it."""
    return re.search(r"allow it: ACL SETUSER bridge ([^;]*)", text)[1].split()
