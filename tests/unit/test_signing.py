"""Signatures, compared with botocore's and with AWS's published examples."""

from datetime import datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.dynamodb.direct.signing import Credentials, Signer

EXAMPLE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
EXAMPLE_TIME = "20150830T123600Z"

words = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=-.", min_size=1, max_size=60
)
credentials = st.builds(Credentials, words, words, st.none() | words)
times = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)).map(  # noqa: DTZ001 - st.datetimes takes naive ones
    lambda at: at.strftime("%Y%m%dT%H%M%SZ")
)


def by_botocore(
    region: str, headers: list[tuple[str, str]], body: bytes, credentials: Credentials, timestamp: str
) -> str:
    request = AWSRequest("POST", "https://example.com/", dict(headers), body)
    request.context["timestamp"] = timestamp
    request.headers.add_header("X-Amz-Date", timestamp)
    auth = SigV4Auth(BotocoreCredentials(*credentials), "dynamodb", region)
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    signed = auth.signed_headers(auth.headers_to_sign(request))
    return f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={signed}, Signature={signature}"


@given(body=st.binary(max_size=500), credentials=credentials, timestamp=times, region=words, host=words)
def test_any_request_is_signed_as_botocore_signs_it(
    body: bytes, credentials: Credentials, timestamp: str, region: str, host: str
) -> None:
    headers = [("host", host), ("x-amz-target", "DynamoDB_20120810.PutItem")]
    if credentials.session_token:
        headers.insert(1, ("x-amz-security-token", credentials.session_token))

    signed = Signer(service="dynamodb", region=region).authorization(
        sorted([*headers, ("x-amz-date", timestamp)]), body, credentials, timestamp
    )

    assert signed == by_botocore(region, headers, body, credentials, timestamp)


@given(requests=st.lists(st.tuples(credentials, times), min_size=2, max_size=6))
def test_a_signing_key_is_used_only_for_its_day_and_its_credentials(
    requests: list[tuple[Credentials, str]],
) -> None:
    kept = Signer(service="dynamodb", region="eu-central-1")

    for credentials, timestamp in requests:
        headers = [("host", "h"), ("x-amz-date", timestamp)]
        new = Signer(service="dynamodb", region="eu-central-1")
        assert kept.authorization(headers, b"", credentials, timestamp) == new.authorization(
            headers, b"", credentials, timestamp
        )


@pytest.mark.parametrize(
    ("name", "headers", "body", "signature"),
    [
        (
            "post-vanilla",
            [],
            b"",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "post-header-value-case",
            [("my-header1", "VALUE1")],
            b"",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            "post-x-www-form-urlencoded",
            [("content-type", "application/x-www-form-urlencoded")],
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_the_published_examples_have_their_signatures(
    name: str, headers: list[tuple[str, str]], body: bytes, signature: str
) -> None:
    """AWS's Signature Version 4 test suite, the cases that are a POST to /."""
    all_headers = sorted([*headers, ("host", "example.amazonaws.com"), ("x-amz-date", EXAMPLE_TIME)])

    signed = Signer(service="service", region="us-east-1").authorization(
        all_headers, body, EXAMPLE, EXAMPLE_TIME
    )

    assert signed.endswith(f", Signature={signature}"), name


def test_the_repr_of_credentials_has_no_secret() -> None:
    assert repr(Credentials("AKID", "s3cr3t", "t0k3n")) == "Credentials(AKID, ...)"
