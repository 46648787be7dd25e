"""What API Gateway and the load balancer answer themselves: refusals, CORS, fixed responses, redirects, logins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scripts.rehearsal.gateway.stats import Outcome
from scripts.support.listener_rules import Rule


@dataclass
class Answer:
    """An answer with where it came from, for the statistics: as in :class:`~scripts.rehearsal.gateway.stats.Sample`."""

    response: Response
    group: str | None = None
    rule: str | None = None
    outcome: Outcome = "api"
    balancer: int | None = None
    target_ms: float | None = None
    bound: bool = False


def own(status: int, message: str, outcome: Outcome = "api", **more: Any) -> Answer:
    """An answer that no application gave: API Gateway's, or with another ``outcome`` the load balancer's."""
    answer = JSONResponse({"message": message}, status)
    return Answer(answer, **{"outcome": outcome, "balancer": None if outcome == "api" else status, **more})


def of_rule(rule: Rule) -> Answer | None:
    """What the load balancer answers by itself; None where it forwards."""
    for action in rule.before:
        # Nobody here is logged in at an identity provider, and a client that is no browser goes no further.
        config = action.get("AuthenticateOidcConfig") or action.get("AuthenticateCognitoConfig") or {}
        unknown = config.get("OnUnauthenticatedRequest", "authenticate")
        if unknown != "allow":
            status = 302 if unknown == "authenticate" else 401
            return own(status, f"The rule asks for {action['Type']}.", "balancer", rule=rule.arn)
    if rule.fixed is not None:
        answer = Response(rule.fixed.body, rule.fixed.status, media_type=rule.fixed.content_type)
        return Answer(answer, rule=rule.arn, outcome="balancer")
    if rule.redirect is not None:
        status = 301 if rule.redirect["StatusCode"] == "HTTP_301" else 302
        return own(status, "The rule redirects.", "balancer", rule=rule.arn)
    return None


def _allowed(cors: Mapping[str, Any], request: Request) -> str | None:
    origin = request.headers.get("origin")
    allowed = cors.get("AllowOrigins") or ()
    return origin if origin is not None and (origin in allowed or "*" in allowed) else None


def preflight(cors: Mapping[str, Any], request: Request) -> Answer | None:
    """The answer to a browser's question before a request of another origin, which an API with CORS gives by itself and
    without a token (API Gateway, 'Configure CORS for HTTP APIs'); None for any other request."""
    if not cors or request.method != "OPTIONS" or "access-control-request-method" not in request.headers:
        return None
    response = Response(status_code=204)
    if _allowed(cors, request) is not None:
        response.headers["access-control-allow-methods"] = ",".join(cors.get("AllowMethods") or ())
        response.headers["access-control-allow-headers"] = ",".join(cors.get("AllowHeaders") or ())
        response.headers["access-control-max-age"] = str(cors.get("MaxAge") or 0)
    return Answer(response)


def mark(cors: Mapping[str, Any], request: Request, answer: Answer) -> None:
    """Say in an answer whose page may read it. With CORS set, what the application says of it is left out (the same page)."""
    if not cors:
        return
    if answer.group is not None:
        for name in [name for name in answer.response.headers if name.startswith("access-control-")]:
            del answer.response.headers[name]
    if origin := _allowed(cors, request):
        answer.response.headers["access-control-allow-origin"] = origin
        if cors.get("AllowCredentials"):
            answer.response.headers["access-control-allow-credentials"] = "true"
