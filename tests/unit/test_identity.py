"""What a job's hash says of the file that it was read from, as text and back."""

import pytest

from jobcache_refresher.scan.identity import Identity, decode, encode
from jobcache_refresher.scan.tree import Fingerprint

SEEN = Fingerprint(1_700_000_000_123_456_789, 1_700_000_000_223_456_789, 2345, 987654)
TEXT = b"1700000000123456789:1700000000223456789:2345:987654"


@pytest.mark.parametrize(
    ("tag", "racy", "text"),
    [
        (b"", False, TEXT),
        (b"k3Zq", False, TEXT + b":k3Zq"),
        (b"k3Zq", True, TEXT + b":k3Zq:~"),
        (b"", True, TEXT + b"::~"),
    ],
)
def test_encode_of_each_form_is_decoded_to_the_same(tag: bytes, racy: bool, text: bytes) -> None:
    assert encode(SEEN, tag, racy) == text
    assert decode(text) == Identity(SEEN, tag, racy)


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        (TEXT + b":k3Zq:~:x:y", Identity(SEEN, b"k3Zq", True)),
        (TEXT + b":k3Zq::x", Identity(SEEN, b"k3Zq", False)),
        (TEXT + b":k3Zq:?", Identity(SEEN, b"k3Zq", False)),
        (b"", Identity(None, b"", True)),
        (b"1:2:3", Identity(None, b"", True)),
        (b"1:2:3:x:k3Zq", Identity(None, b"", True)),
        (b"\xff:2:3:4", Identity(None, b"", True)),
        (b"9" * 5000 + b":2:3:4", Identity(None, b"", True)),
    ],
)
def test_decode_of_other_text_keeps_what_can_be_read(text: bytes, identity: Identity) -> None:
    assert decode(text) == identity
