"""A Redis whose user `bridge` may do what a test allows: access rules as ACL SETUSER has them."""

import re


def guard(redis, password):
    """Makes the Redis user, without rights as yet; returns the server."""
    redis.client.execute_command("ACL", "SETUSER", "bridge", "on", f">{password}")
    return redis


def allow(redis, *rules):
    redis.client.execute_command("ACL", "SETUSER", "bridge", *rules)


def rules_of(text):
    """The ACL rules that `check --connect` names as the remedy."""
    return re.search(r"allow it: ACL SETUSER bridge ([^;]*)", text)[1].split()
