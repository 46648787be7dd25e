"""Tokens are judged as a JWT authorizer judges them: signature, issuer, audience, times; keys are read once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from scripts.rehearsal.tokens import InvalidToken, KeysUnavailable, Verifier, bearer, user_of

ISSUER, CLIENT = "https://issuer.example/pool", "client-1"
KEY, OTHER = (RSAKey.generate_key(2048, {"kid": name}, auto_kid=False) for name in ("one", "two"))


def _token(key: RSAKey = KEY, header: dict[str, Any] | None = None, **claims: Any) -> str:
    now = int(time.time())
    kid = str(key.as_dict()["kid"])
    payload = {"iss": ISSUER, "aud": CLIENT, "exp": now + 60, "iat": now, "cognito:username": "user-7", **claims}
    kept = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": kid, **(header or {})}, kept, key)


class _Keys:
    """An issuer's key endpoint that counts how often it is asked."""

    def __init__(self, *keys: RSAKey, status: int = 200) -> None:
        self.keys, self.status, self.asked = list(keys), status, 0

    def verify(self, *tokens: str) -> list[Any]:
        """Claims or error of each token, by one verifier."""

        def answer(_: httpx.Request) -> httpx.Response:
            self.asked += 1
            return httpx.Response(self.status, json={"keys": [key.as_dict(private=False) for key in self.keys]})

        async def run() -> list[Any]:
            async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
                verifier = Verifier("https://issuer.example/jwks.json", ISSUER, [CLIENT], client)
                return [await asyncio.gather(verifier.verify(token), return_exceptions=True) for token in tokens]

        return [item[0] for item in asyncio.run(run())]


def test_a_valid_id_or_access_token_gives_its_claims_and_the_keys_are_read_once() -> None:
    """Prevents a request for keys with each request."""
    keys = _Keys(KEY)
    other: dict[str, Any] = {"aud": None, "client_id": CLIENT, "cognito:username": None, "username": "user-8"}
    access = _token(**other)
    found = keys.verify(_token(), access, _token())
    assert [user_of(claims) for claims in found] == [7, 8, 7]
    assert keys.asked == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example/pool"},
        {"iss": None},
        {"aud": "client-2"},
        {"aud": None},
        {"aud": None, "client_id": "client-2"},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"exp": "never"},
        {"nbf": int(time.time()) + 86400},
        {"iat": int(time.time()) + 86400},
    ],
)
def test_a_token_of_another_issuer_audience_or_time_is_refused(claims: dict[str, Any]) -> None:
    """Prevents a request in the name of a token that was never meant for this API, or is no more."""
    (found,) = _Keys(KEY).verify(_token(**claims))
    assert isinstance(found, InvalidToken)


def test_a_token_signed_by_another_key_or_by_none_is_refused() -> None:
    """Prevents forged tokens, above all `alg: none` and a known kid on a strange key."""
    head, payload, _ = _token().split(".")
    unsigned = f"eyJhbGciOiJub25lIn0.{payload}."
    wrong_kid = _token(OTHER, {"kid": "one"})
    for token in (unsigned, wrong_kid, f"{head}.{payload}.AAAA", "", "a.b", "a.b.c.d.e"):
        (found,) = _Keys(KEY).verify(token)
        assert isinstance(found, InvalidToken), token


def test_a_storm_of_bad_tokens_does_not_reach_the_issuer() -> None:
    """Prevents a caller without a token from making the gateway flood Cognito."""
    keys = _Keys(KEY)
    found = keys.verify(*(_token(OTHER) for _ in range(20)), _token())
    assert all(isinstance(item, InvalidToken) for item in found[:-1])
    assert user_of(found[-1]) == 7
    assert keys.asked == 1


def test_without_keys_no_token_is_judged() -> None:
    """Prevents a failure of the issuer that looks like a bad token."""
    (found,) = _Keys(KEY, status=500).verify(_token())
    assert isinstance(found, KeysUnavailable)


def test_an_expired_token_is_refused_though_it_was_judged_valid_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a kept verdict that outlives its token."""
    keys, token, now = _Keys(KEY), _token(), time.time()

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": [key.as_dict(private=False) for key in keys.keys]})

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            verifier = Verifier("https://issuer.example/jwks.json", ISSUER, [CLIENT], client)
            await verifier.verify(token)
            # Its 60 seconds and the clocks' difference, 5, are over.
            monkeypatch.setattr(time, "time", lambda: now + 67)
            with pytest.raises(InvalidToken, match="expired"):
                await verifier.verify(token)

    asyncio.run(run())


@pytest.mark.parametrize("name", ["admin", "user-", "user-x", "user--1", "7", "user-７", "", None])
def test_a_username_of_another_form_names_no_user(name: str | None) -> None:
    """Prevents a user of the pool who is none of the monolith's from being taken for one."""
    with pytest.raises(InvalidToken):
        user_of({"cognito:username": name})


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer   ", "Basic abc", "abc"])
def test_only_a_bearer_header_carries_a_token(header: str | None) -> None:
    """Prevents a token taken from elsewhere."""
    with pytest.raises(InvalidToken):
        bearer(header)
