"""HTTP API, VPC link and load balancer in one local process: ``python -m scripts.rehearsal.gateway.server --port N``.

It decides nothing of its own: routes and authorizers are those of the emulated HTTP API, target groups and weights are
those of the emulated listener's rules, so traffic moves only when a deployment changes a rule. A request that is under
way ends on the target it was sent to, unless that one's drain ends before; nothing is ever sent twice.

Who answers what (Elastic Load Balancing, 'Troubleshoot your Application Load Balancers'): 503, no target is registered; 502, the
target refuses or breaks the connection; 504, no connection within 10 s or no answer within the idle timeout; 460, the client gave
up before. That client is the API, which waits as long as its integration says, 30 s at most, and then answers 503 ('Quotas for HTTP
APIs'; the status as seen in cortexlabs/cortex, issue 1225).

Environment: AWS_ENDPOINT_URL and AWS_REGION; GATEWAY_API, the HTTP API's id; GATEWAY_TARGETS, a JSON object of target group ARN ->
base URL. ``GET /__gateway/stats?since=<epoch seconds>`` gives what it measured.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Endpoint

from scripts.canary.figures import complete
from scripts.rehearsal.app.server import serve
from scripts.rehearsal.emulated.publish import minute_of
from scripts.rehearsal.gateway import answers
from scripts.rehearsal.gateway.answers import Answer, own
from scripts.rehearsal.gateway.metrics import publisher
from scripts.rehearsal.gateway.routes import BALANCER, find_route
from scripts.rehearsal.gateway.stats import Sample, Stats
from scripts.rehearsal.gateway.stickiness import bound_group, cookies_for
from scripts.rehearsal.gateway.targets import Targets, beside
from scripts.rehearsal.gateway.upstream import Broken, TooSlow, Unreachable, Upstream
from scripts.rehearsal.gateway.watch import Authorizer, Integration, Watcher
from scripts.rehearsal.tokens import InvalidToken, KeysUnavailable, Verifier, bearer
from scripts.support.errors import MigrationError
from scripts.support.listener_rules import Request as Asked
from scripts.support.listener_rules import Rule, choose, find_rule

#: API Gateway, 'Quotas for HTTP APIs'.
PAYLOAD_LIMIT = 10 * 1024 * 1024
DEFAULT_WINDOW = 60.0
PERIODS_KEPT = 1000
#: RFC 9110, 7.6.1: these belong to one connection and are not passed on; the length is written anew.
_HOP = {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer"}
_HOP |= {b"transfer-encoding", b"upgrade"}
_NOT_FORWARDED = _HOP | {b"host", b"content-length", b"expect"}
_NOT_RETURNED = _HOP | {b"content-length", b"date", b"server"}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def _raw_path(request: Request) -> bytes:
    return bytes(request.scope.get("raw_path") or request.scope["path"].encode())


def _beside(request: Request) -> bool:
    """Whether it is for the load balancer itself, past the API."""
    return _raw_path(request).startswith(f"{BALANCER}/".encode())


@dataclass
class Gateway:
    """The running gateway's parts."""

    #: Of the emulated account.
    endpoint: str
    targets: Targets
    watcher: Watcher
    client: httpx.AsyncClient
    upstream: Upstream
    stats: Stats = field(default_factory=Stats)
    _verifiers: dict[tuple[str, tuple[str, ...]], Verifier] = field(default_factory=dict)

    async def handle(self, request: Request) -> Response:
        """Any request: find the route, judge the token, find the rule, forward."""
        started = time.perf_counter()
        # A browser's question before a request of another origin is answered here, and never passed on.
        answer = answers.preflight(self.watcher.view.cors, request) or await self._answer(request)
        answers.mark(self.watcher.view.cors, request, answer)
        elapsed = (time.perf_counter() - started) * 1000
        self.stats.record(
            Sample(
                time.time(), answer.group, answer.rule, answer.response.status_code, elapsed,
                answer.outcome, answer.balancer, answer.target_ms, not _beside(request), answer.bound,
            )
        )  # fmt: skip
        return answer.response

    async def _answer(self, request: Request) -> Answer:
        view = self.watcher.view
        if view.read_at is None:
            return own(503, f"The gateway has no routes yet: {self.watcher.problem}.")
        # As sent, percent signs and all, like the load balancer: a%2Fb is one part of a path.
        path = _raw_path(request).decode("latin-1")
        if _beside(request):
            listener = next(iter(view.rules), "")
            way = Integration(listener, view.secure.get(listener, False), None)
            return await self._balance(request, path.removeprefix(BALANCER), way)
        route = find_route(view.routes, request.method, path)
        if route is None:
            return own(404, "Not Found")
        if route.authorizer_id is not None:
            refused = await self._refusal(request, view.authorizers[route.authorizer_id])
            if refused is not None:
                return refused
        return await self._balance(request, path, view.integrations.get(route.integration_id))

    async def _balance(self, request: Request, path: str, way: Integration | None) -> Answer:
        """The load balancer: the listener's first rule that takes the request says who answers."""
        view = self.watcher.view
        secure = view.secure.get(way.listener) if way else None
        if way is None or secure is None:
            return own(503, "No listener is behind this route.")
        if way.closed or (way.tls and not secure):
            return own(503, "Service Unavailable")  # no connection, or no handshake
        if secure and not way.tls:
            return own(400, "The plain HTTP request was sent to HTTPS port", "balancer")
        headers = {name.lower(): value for name, value in request.headers.items()}
        host = way.host or headers.get("host", "").partition(":")[0]
        source = request.client.host if request.client else "127.0.0.1"
        query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        try:
            rule = find_rule(
                view.rules.get(way.listener, ()), Asked(request.method, host, path, headers, query, source)
            )
        except MigrationError as error:
            return own(503, str(error))
        if rule is None:
            return own(503, "No rule of the listener takes the request.")
        return answers.of_rule(rule) or await self._forward(request, path, rule, way)

    async def _refusal(self, request: Request, authorizer: Authorizer) -> Answer | None:
        key = (authorizer.issuer, authorizer.audiences)
        verifier = self._verifiers.get(key)
        if verifier is None:
            pool = authorizer.issuer.rstrip("/").rpartition("/")[2]
            url = f"{self.endpoint}/{pool}/.well-known/jwks.json"
            verifier = self._verifiers[key] = Verifier(url, *key, self.client)
        try:
            await verifier.verify(bearer(request.headers.get("authorization")))
        except InvalidToken:
            return own(401, "Unauthorized")
        except KeysUnavailable:
            # As the real authorizer does when it cannot reach the issuer.
            return own(500, "Internal Server Error")
        return None

    async def _forward(self, request: Request, path: str, rule: Rule, way: Integration) -> Answer:
        bound = bound_group(rule, request.headers.get("cookie", ""), time.time())
        group = bound or choose(rule.weights, random.random)
        chosen = self.targets.choose(group, random.random) if group else None
        where: dict[str, Any] = {"group": group, "rule": rule.arn, "bound": bound is not None}
        if group is None or chosen is None:
            return own(503, "Service Temporarily Unavailable", "balancer", **where)
        try:
            body = await request.body()
        except ClientDisconnect:
            return own(400, "The request ended early.", rule=rule.arn)
        if len(body) > PAYLOAD_LIMIT:
            return own(413, "Request Entity Too Large", rule=rule.arn)
        query: bytes = request.scope["query_string"]
        target = path.encode("latin-1") + (b"?" + query if query else b"")
        headers = [pair for pair in request.headers.raw if pair[0] not in _NOT_FORWARDED]
        headers.append((b"x-forwarded-for", (request.client.host if request.client else "127.0.0.1").encode()))
        self.stats.begin(group, rule.arn, time.time())
        sent, idle = time.perf_counter(), self.watcher.view.idle[way.listener]
        try:
            async with self.targets.serving(group, chosen):
                base, seconds = self.targets.addresses[group], min(way.seconds, idle)
                status, received, content = await self.upstream.send(
                    base, request.method, target, headers, body, seconds
                )
        except TooSlow:
            if way.seconds < idle:
                return own(503, "Service Unavailable", "broken", balancer=460, **where)
            return own(504, "Gateway Time-out", "broken", **where)
        except Unreachable as error:
            return own(504 if error.timed_out else 502, str(error), "unreachable", **where)
        except (Broken, TimeoutError):
            return own(502, "Bad Gateway", "broken", **where)
        finally:
            self.stats.end(group)
        answered = time.perf_counter()
        response = Response(content, status)
        response.raw_headers = [pair for pair in received if pair[0] not in _NOT_RETURNED]
        response.raw_headers += cookies_for(rule, group, time.time())
        # RFC 9110, 8.6: no length on 204 and 1xx; a HEAD or 304 keeps none rather than a wrong one.
        if status not in (204, 304) and request.method != "HEAD":
            response.raw_headers.append((b"content-length", str(len(content)).encode()))
        return Answer(response, outcome="target", target_ms=(answered - sent) * 1000, **where)

    async def report(self, request: Request) -> Response:
        """``GET /__gateway/stats``: figures since ``since`` (default: of the last 60 s) and the rules in force; with ``period``
        (seconds) also those of each whole period since."""
        now = time.time()
        since = float(request.query_params.get("since", now - DEFAULT_WINDOW))
        period = float(request.query_params.get("period", "0"))
        view, live = self.watcher.view, self.watcher.view.live_rule()
        rules = [rule for rules in view.rules.values() for rule in sorted(rules, key=lambda item: item.priority)]
        groups = sorted({group for rule in rules for group in rule.weights})
        figures: dict[str, Any] = self.stats.window(since, groups, live.arn if live else None)
        if period > 0:
            begins = complete(since, now, period, 0.0)[-PERIODS_KEPT:]
            figures["periods"] = self.stats.periods(begins, period, groups)
        return JSONResponse(
            {
                **figures,
                "weights": dict(live.weights) if live else {},
                "rules": [
                    {"arn": rule.arn, "priority": rule.priority, "weights": dict(rule.weights)} for rule in rules
                ],
                "stale": self.watcher.problem is not None,
                "problem": self.watcher.problem,
            }
        )


def create_gateway(environment: Mapping[str, str]) -> Starlette:
    """The ASGI application; it starts reading the APIs when its lifespan starts. Raises KeyError for a variable that is missing."""
    endpoint, addresses = environment["AWS_ENDPOINT_URL"], json.loads(environment["GATEWAY_TARGETS"])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        watcher = Watcher(environment["GATEWAY_API"])
        async with httpx.AsyncClient(trust_env=False) as client, watcher.running(), AsyncExitStack() as stack:
            upstream, targets = Upstream(), Targets(addresses, endpoint, client)
            stack.push_async_callback(upstream.aclose)
            targets.take(watcher.view.groups)
            await stack.enter_async_context(beside(targets.run(lambda: watcher.view.groups)))
            app.state.gateway = gateway = Gateway(endpoint, targets, watcher, client, upstream)
            stack.callback(publisher(gateway.stats, watcher, targets, minute_of(environment)).stop)
            yield

    async def handle(request: Request) -> Response:
        gateway: Gateway = request.app.state.gateway
        return await gateway.handle(request)

    async def report(request: Request) -> Response:
        gateway: Gateway = request.app.state.gateway
        return await gateway.report(request)

    return Starlette(
        routes=[
            Endpoint("/__gateway/stats", report, methods=["GET"]),
            Endpoint("/{path:path}", handle, methods=METHODS),
        ],
        lifespan=lifespan,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the gateway with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="python -m scripts.rehearsal.gateway.server", allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    serve(create_gateway(os.environ), options.port)


if __name__ == "__main__":
    main()
