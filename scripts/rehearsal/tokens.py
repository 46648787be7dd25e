"""Tokens of the Cognito pool: making users and logging them in, and validating what they bring.

A user of the monolith with id N is the pool's user ``user-N``; the id token carries that name as ``cognito:username``
(Amazon Cognito, 'Understanding the identity (ID) token'), the access token as ``username``.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from scripts.support import private
from scripts.support.errors import MigrationError
from scripts.support.redact import remember_secret

USER_PREFIX = "user-"
#: Clock difference in seconds that a token's times may show.
LEEWAY = 5
#: A key that is not in the set is looked for again at most this often: bad tokens must not make a storm of requests.
REFRESH_SECONDS = 10.0
_CACHE_LIMIT = 2000
#: Where moto 5.2.5 keeps the key that signs the tokens of its Cognito.
MOTO_KEY = ("resources", "jwks-private.json.gz")


class InvalidToken(MigrationError):
    """The token is missing, malformed, expired, of another issuer or audience, or its signature is wrong."""


class KeysUnavailable(MigrationError):
    """The issuer's public keys could not be read, so no token can be judged."""


def create_users(cognito: Any, pool_id: str, user_ids: Iterable[int], password: str) -> None:
    """Make confirmed users ``user-<id>`` with this password; those that exist get the password.

    Args:
        cognito: boto3 client ``cognito-idp``.
        password: at least 8 characters with upper and lower case, figure and symbol (the pool's default policy).
    """
    remember_secret(password)
    for user_id in user_ids:
        name = f"{USER_PREFIX}{user_id}"
        with contextlib.suppress(cognito.exceptions.UsernameExistsException):
            cognito.admin_create_user(UserPoolId=pool_id, Username=name, MessageAction="SUPPRESS")
        cognito.admin_set_user_password(UserPoolId=pool_id, Username=name, Password=password, Permanent=True)


def login(cognito: Any, client_id: str, username: str, password: str) -> str:
    """The id token of this user, by USER_PASSWORD_AUTH, which the app client must allow.

    Raises:
        botocore.exceptions.ClientError: unknown user or wrong password.
        InvalidToken: the pool answers with a challenge instead of tokens.
    """
    answer = cognito.initiate_auth(
        ClientId=client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": username, "PASSWORD": password},
    )
    result = answer.get("AuthenticationResult")
    if not result:
        raise InvalidToken(
            f"{username} got the challenge {answer.get('ChallengeName')} instead of a token; give the user a permanent "
            "password: aws cognito-idp admin-set-user-password --permanent"
        )
    token = str(result["IdToken"])
    remember_secret(token)
    return token


def tokens_for(cognito: Any, client_id: str, user_ids: Iterable[int], password: str) -> dict[int, str]:
    """User id -> id token, for users that :func:`create_users` made."""
    return {user_id: login(cognito, client_id, f"{USER_PREFIX}{user_id}", password) for user_id in user_ids}


def refused(cognito: Any, token: str) -> dict[str, str]:
    """Tokens that everybody must refuse although the emulated Cognito's key signed them: ``token`` as it is once expired, and one
    of a pool of its own. All pools of moto share one key, so their signatures are right.
    """
    key = RSAKey.import_key(json.loads(gzip.decompress(files("moto.cognitoidp").joinpath(*MOTO_KEY).read_bytes())))
    judged = jwt.decode(token, key, algorithms=["RS256"])
    past = int(time.time()) - 3600
    pool = cognito.create_user_pool(PoolName="another")["UserPool"]["Id"]
    flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    made = cognito.create_user_pool_client(UserPoolId=pool, ClientName="another", ExplicitAuthFlows=flows)
    password = f"Aa1!{secrets.token_urlsafe(12)}"
    create_users(cognito, pool, [user_of(judged.claims)], password)
    (other,) = tokens_for(cognito, made["UserPoolClient"]["ClientId"], [user_of(judged.claims)], password).values()
    expired = jwt.encode(
        judged.header, {**judged.claims, "iat": past - 3600, "auth_time": past - 3600, "exp": past}, key
    )
    return {"expired": expired, "other-pool": other}


def write_tokens_file(path: Path, tokens: Mapping[int, str], groups: Mapping[int, int]) -> None:
    """Write the file that the load test reads (TASK_LOAD_TOKENS_FILE), readable by its owner only; ``groups``: user -> group."""
    users = [{"user_id": user, "token": token, "group": groups.get(user)} for user, token in tokens.items()]
    private.write(path, json.dumps(users))


def user_of(claims: Mapping[str, Any]) -> int:
    """The monolith's user id of validated claims. Raises InvalidToken when the token names no such user."""
    name = str(claims.get("cognito:username") or claims.get("username") or "")
    number = name.removeprefix(USER_PREFIX)
    if name == number or not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise InvalidToken("the token's username is not of the form user-<id>")
    return int(number)


def bearer(authorization: str | None) -> str:
    """The token in an Authorization header's value. Raises InvalidToken when there is none."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise InvalidToken("there is no `Authorization: Bearer <token>` header")
    return token.strip()


class Verifier:
    """Judges tokens of one issuer as an HTTP API's JWT authorizer does (API Gateway, 'Control access to HTTP APIs with
    JWT authorizers'): signature by the issuer's keys, ``iss``, ``exp``, ``nbf``, ``iat``, and ``aud``, or ``client_id``
    when there is no ``aud``. The constructor reads nothing; keys are fetched with the first token.
    """

    def __init__(self, jwks_url: str, issuer: str, audiences: Collection[str], client: httpx.AsyncClient) -> None:
        self.jwks_url = jwks_url
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY, iss={"essential": True, "value": issuer}, exp={"essential": True}
        )
        self.audiences = frozenset(audiences)
        self._client = client
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._judged: dict[str, dict[str, Any]] = {}

    async def verify(self, token: str) -> dict[str, Any]:
        """The claims of a valid token.

        Raises:
            InvalidToken: it is not valid.
            KeysUnavailable: the keys were never read and cannot be read now.
        """
        claims = self._judged.get(token) or await self._decode(token)
        self._check(claims)
        if len(self._judged) >= _CACHE_LIMIT:
            self._judged.clear()
        self._judged[token] = claims
        return claims

    async def _decode(self, token: str) -> dict[str, Any]:
        keys = await self._key_set(refresh=False)
        try:
            return dict(jwt.decode(token, keys, algorithms=["RS256"]).claims)
        except (JoseError, ValueError):
            pass
        # The issuer may have a new key; a set read just now is not read again.
        newer = await self._key_set(refresh=True)
        try:
            return dict(jwt.decode(token, newer, algorithms=["RS256"]).claims)
        except (JoseError, ValueError):
            raise InvalidToken("the token is malformed or its signature is wrong") from None

    def _check(self, claims: dict[str, Any]) -> None:
        named = claims.get("aud", claims.get("client_id"))
        given = {str(name) for name in named} if isinstance(named, list) else {str(named)}
        if not given & self.audiences:
            raise InvalidToken("the token is for another audience")
        try:
            self._claims.validate(claims)
        except JoseError as error:
            raise InvalidToken(f"the token is of another issuer or time: {error}") from None

    async def _key_set(self, *, refresh: bool) -> KeySet:
        recent = time.monotonic() - self._fetched_at < REFRESH_SECONDS
        if self._keys is not None and (recent or not refresh):
            return self._keys
        try:
            answer = await self._client.get(self.jwks_url, timeout=5.0)
            answer.raise_for_status()
            self._keys = KeySet.import_key_set(answer.json())
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
            if self._keys is None:
                raise KeysUnavailable(
                    f"the issuer's keys cannot be read from {self.jwks_url}: {type(error).__name__}; check that it is "
                    "the pool's /.well-known/jwks.json and can be reached"
                ) from None
        # After a failure too: the next bad token must not ask again at once.
        self._fetched_at = time.monotonic()
        return self._keys
