"""Requests that reach the load balancer beside the API Gateway.

They pass by its JWT authorizer, so the service must judge tokens itself: who is in the VPC, or finds a balancer that is open
to more than the VPC link, speaks as any user otherwise.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.api.session import Session
from scripts.api.shapes import message, task_list
from scripts.support.errors import UsageError

#: An id that no sequence reaches before the bands do.
NOBODYS_TASK = 2**62
#: A JWT in form alone: header, claims and signature that no issuer made.
FORGED = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
LISTING = "GET /api/tasks"
#: Each endpoint with a body that makes nothing where it is let in all the same.
_GUARDED: tuple[tuple[str, str, Any], ...] = (
    (LISTING, "", None),
    ("POST /api/tasks", "", {"title": ""}),
    ("GET /api/tasks/{id}", f"/{NOBODYS_TASK}", None),
    ("PUT /api/tasks/{id}", f"/{NOBODYS_TASK}", {"title": "x"}),
    ("DELETE /api/tasks/{id}", f"/{NOBODYS_TASK}", None),
    *(
        (f"POST /api/tasks/{{id}}/{verb}", f"/{NOBODYS_TASK}/{verb}", None)
        for verb in ("complete", "approve", "reject")
    ),
)


@dataclass(frozen=True)
class Balancer:
    """Where the load balancer is reached, and how its smoke rule is.

    ``refused`` are files with tokens that must be refused although an issuer made them: expired, of another pool or client.
    """

    url: str
    smoke_headers: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[Path, ...] = ()


def refused_tokens(token: str, given: Mapping[Path, str]) -> dict[str, str | None]:
    """What must get 401, by what is wrong with it: none, forged ones made of ``token``, and those of the files.

    Raises:
        UsageError: a given token could be valid.
    """
    from joserfc import jwt
    from joserfc.jwk import OctKey, RSAKey

    found: dict[str, str | None] = {"no token": None, "a token in form alone": FORGED}
    header, claims = _parts(token)
    if claims:
        head, body, signature = token.split(".")
        signed = {"alg": "RS256", "kid": header.get("kid")}
        found |= {
            "other claims under its signature": f"{head}.{_encoded({**claims, 'exp': 2**40})}.{signature}",
            "unsigned (alg none)": f"{_encoded({'alg': 'none'})}.{body}.",
            "signed by a key of ours": jwt.encode(signed, claims, RSAKey.generate_key(2048)),
            "signed by a secret of ours": jwt.encode({**signed, "alg": "HS256"}, claims, OctKey.generate_key()),
        }
    for file, text in given.items():
        found[f"{_fault(claims, text, file)} ({file.name})"] = text
    return found


def _encoded(part: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unjudged; empty when it is no JWT."""
    try:
        head, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in token.split(".")[:2]
        )
        return dict(head), dict(claims)
    except (ValueError, TypeError):
        return {}, {}


def _fault(good: Mapping[str, Any], token: str, file: Path) -> str:
    claims = _parts(token)[1]
    if claims.get("exp", time.time() + 1) <= time.time():
        return "expired"
    if claims.get("iss") != good.get("iss"):
        return "of another issuer"
    if claims.get("aud", claims.get("client_id")) != good.get("aud", good.get("client_id")):
        return "for another client"
    raise UsageError(
        f"the token in {file} is not expired and of the same issuer and client as the user's, so it may be valid; "
        "give one that must be refused"
    )


def check(session: Session, where: str, refused: Mapping[str, str | None]) -> None:
    """Every endpoint refuses each of ``refused``, and the user's token is let in, or the refusals would show nothing."""
    session.way = f"{where}, the user's token: "
    session.expect(LISTING, 200, "GET", "/api/tasks?limit=1", token=session.token, shape=task_list(at_most=1))
    for fault, token in refused.items():
        session.way = f"{where}, {fault}: "
        for endpoint, tail, body in _GUARDED:
            method = endpoint.partition(" ")[0]
            session.expect(endpoint, 401, method, f"/api/tasks{tail}", token=token, body=body, shape=message)
