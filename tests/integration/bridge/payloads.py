"""Payloads that a serializer may trip over."""

ALL_BYTES = bytes(range(256))
PAYLOADS = {
    "empty": b"",
    "quoted": b"it's \"quoted\" \\ and /slashed/ \\\\0 \\' \n\t",
    "control": bytes(range(128)),
    "bytes": ALL_BYTES,
    "emoji": "Gr\u00fc\u00dfe \u2603 \U0001f600 \u2028".encode(),
    "large": b"0123456789'\\" * 87382,  # 1 MB
    "nested": b'{"a":[' * 200 + b"1" + b"]}" * 200,
    "serialized": b'O:8:"stdClass":1:{s:1:"a";R:1;}',
    "envelope": b's:5:"quite";";}}a:1:{i:0;r:4;}',
    "json": b'{"topic":"x","payload":"y"}',
}
# What a stamp of the application's own says.
TRACE = 'the "shop"\'s \\ own \u00e9'
