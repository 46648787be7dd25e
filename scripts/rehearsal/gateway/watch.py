"""Reads routes, authorizers and integrations from the emulated HTTP API and rules from the emulated load balancer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from scripts.preflight.account.ways import closed
from scripts.rehearsal.emulated.core import pages
from scripts.rehearsal.gateway.routes import Route
from scripts.rehearsal.gateway.targets import Group, beside
from scripts.support.errors import MigrationError
from scripts.support.listener_rules import Request, Rule, find_rule, parse_rule, read_rules

log = logging.getLogger(__name__)

RULES_SECONDS = 0.5
#: Routes change only when the API is deployed, so they are read on every eighth turn.
ROUTES_EVERY = 8
LIVE_PATH = "/api/tasks"


@dataclass(frozen=True)
class Authorizer:
    """A JWT authorizer's configuration."""

    issuer: str
    audiences: tuple[str, ...]


@dataclass(frozen=True)
class Integration:
    """A way from the HTTP API to a listener: whether it speaks TLS to it, the Host that it sends instead of the client's, its
    VPC link, how long the API waits for an answer, and why the security groups stop it, if they do."""

    listener: str
    tls: bool
    host: str | None
    link: str = ""
    seconds: float = math.inf
    closed: str | None = None


@dataclass(frozen=True)
class View:
    """What the two APIs said last. ``rules``, ``secure`` (whether it speaks TLS) and ``idle`` (seconds that the load balancer waits
    for an answer) have an entry for each listener's ARN, ``groups`` for each target group's that a rule names."""

    routes: tuple[Route, ...] = ()
    authorizers: Mapping[str, Authorizer] = field(default_factory=dict)
    integrations: Mapping[str, Integration] = field(default_factory=dict)
    #: The API's CORS configuration, empty without one.
    cors: Mapping[str, Any] = field(default_factory=dict)
    secure: Mapping[str, bool] = field(default_factory=dict)
    idle: Mapping[str, float] = field(default_factory=dict)
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    read_at: float | None = None

    def live_rule(self) -> Rule | None:
        """The rule that a plain ``GET /api/tasks`` through the API meets."""
        for way in self.integrations.values():
            request = Request("GET", way.host or "", LIVE_PATH, {}, (), "127.0.0.1")
            return find_rule(self.rules.get(way.listener, ()), request)
        return None


class Watcher:
    """Keeps the newest view; when the APIs cannot be read, the last one stays and :attr:`problem` says why."""

    def __init__(self, api: str) -> None:
        """``api`` is the HTTP API's id."""
        self.api = api
        # One attempt, short: the next turn is the retry.
        config = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
        session = boto3.Session()
        make: Any = session.client
        self._gateway, self._balancer, self._network = (
            make(service, config=config) for service in ("apigatewayv2", "elbv2", "ec2")
        )
        self.view = View()
        self.problem: str | None = "nothing was read yet"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read once, then again and again while inside."""
        await self.turn(routes=True)
        async with beside(self._run()):
            yield

    async def _run(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(RULES_SECONDS)
            turn += 1
            await self.turn(routes=turn % ROUTES_EVERY == 0 or self.view.read_at is None)

    async def turn(self, *, routes: bool) -> None:
        """Read the rules, and with ``routes`` the HTTP API too."""
        try:
            self.view = await asyncio.to_thread(self._read, self.view, routes)
            self.problem = None
        except (BotoCoreError, ClientError, MigrationError, KeyError, ValueError) as error:
            if self.problem is None:
                log.warning("the emulated AWS cannot be read, the last known rules stay: %s", error)
            self.problem = f"{type(error).__name__}: {error}"

    def _read(self, last: View, routes: bool) -> View:
        view = self._read_api() if routes else last
        listeners = sorted({way.listener for way in view.integrations.values()})
        secure, idle = view.secure, view.idle
        if routes and listeners:
            described = self._balancer.describe_listeners(ListenerArns=listeners)["Listeners"]
            secure = {str(item["ListenerArn"]): item["Protocol"] == "HTTPS" for item in described}
            by_arn = {str(item["ListenerArn"]): item for item in described}
            idle = {arn: self._idle(item["LoadBalancerArn"]) for arn, item in by_arn.items()}
            ways = {key: self._judged(way, last, by_arn[way.listener]) for key, way in view.integrations.items()}
            view = replace(view, integrations=ways)
        rules = {arn: tuple(map(parse_rule, read_rules(self._balancer, arn))) for arn in listeners}
        named = {group for each in rules.values() for rule in each for group in rule.weights}
        groups = {arn: self._group(arn, None if routes else last.groups.get(arn)) for arn in sorted(named)}
        return replace(view, secure=secure, idle=idle, rules=rules, groups=groups, read_at=time.time())

    def _idle(self, balancer: str) -> float:
        """The load balancer's idle timeout, which moto does not give as long as it is AWS's default."""
        attributes = self._balancer.describe_load_balancer_attributes(LoadBalancerArn=balancer)["Attributes"]
        return float({item["Key"]: item["Value"] for item in attributes}.get("idle_timeout.timeout_seconds", 60))

    def _group(self, arn: str, known: Group | None) -> Group:
        """A target group and its targets; of one whose settings are ``known`` only these are read."""
        if known is None:
            (described,) = self._balancer.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]
            attributes = self._balancer.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
            known = Group.described(described, attributes)
        targets = self._balancer.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        states = {str(item["Target"]["Id"]): item["TargetHealth"]["State"] for item in targets}
        draining = frozenset(key for key, state in states.items() if state == "draining")
        return replace(known, registered=frozenset(states) - draining, draining=draining)

    def _judged(self, way: Integration, last: View, listener: Mapping[str, Any]) -> Integration:
        """The way, and whether the groups of its link reach the load balancer; one that was open is not looked at again."""
        if replace(way, closed=None) in last.integrations.values():
            return way
        links = self._gateway.get_vpc_link(VpcLinkId=way.link)["SecurityGroupIds"]
        arn = listener["LoadBalancerArn"]
        balancer = self._balancer.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"][0]
        return replace(way, closed=closed(self._network, links, balancer["SecurityGroups"], int(listener["Port"])))

    def _read_api(self) -> View:
        api = {"ApiId": self.api}
        found = self._gateway.get_api(**api)
        routes, wanted = [], set()
        for item in pages(self._gateway, "get_routes", "Items", **api):
            authorizer = item.get("AuthorizerId") if item.get("AuthorizationType") == "JWT" else None
            if item.get("AuthorizationType", "NONE") not in ("JWT", "NONE"):
                raise MigrationError(
                    f"route {item['RouteKey']} has the authorization type {item['AuthorizationType']}, which the local "
                    "gateway does not know; use JWT or NONE"
                )
            if authorizer:
                wanted.add(str(authorizer))
            routes.append(
                Route(item["RouteKey"], authorizer, str(item.get("Target", "")).removeprefix("integrations/"))
            )
        authorizers = {}
        for name in wanted:
            # One by one: moto 5.2.5 does not know GetAuthorizers.
            config = self._gateway.get_authorizer(**api, AuthorizerId=name)["JwtConfiguration"]
            authorizers[name] = Authorizer(config["Issuer"], tuple(config.get("Audience", ())))
        integrations = {}
        for item in pages(self._gateway, "get_integrations", "Items", **api):
            uri = str(item.get("IntegrationUri", ""))
            if ":listener/" in uri:
                host = (item.get("RequestParameters") or {}).get("overwrite:header.host")
                link = str(item.get("ConnectionId", ""))
                seconds = item["TimeoutInMillis"] / 1000
                way = Integration(uri, bool(item.get("TlsConfig")), host, link, seconds)
                integrations[str(item["IntegrationId"])] = way
        return View(tuple(routes), authorizers, integrations, found.get("CorsConfiguration") or {})
