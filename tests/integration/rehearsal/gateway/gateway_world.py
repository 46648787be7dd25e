"""An HTTP API with routes and a listener with rules in the emulated AWS, two upstreams that do as told, and the gateway."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from scripts.support.process import free_port
from scripts.support.wait import wait_until
from tests.integration.rehearsal.app.app_world import AppWorld, wait_for

ROUTES = (
    "GET /api/tasks",
    "POST /api/tasks",
    "GET /api/tasks/{id}",
    "PUT /api/tasks/{id}",
    "DELETE /api/tasks/{id}",
    "POST /api/tasks/{id}/complete",
    "POST /api/tasks/{id}/approve",
    "POST /api/tasks/{id}/reject",
)
PATHS = ("/api/tasks", "/api/tasks/*")
SMOKE_HEADER, SMOKE_VALUE = "X-Task-Service-Smoke", "made-up-smoke-value"


class Upstream:
    """An application that counts requests and behaves as :attr:`behave` says, in threads of its own; the load balancer's health
    checks get :attr:`health` and are counted apart."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.health, self.checks = 200, 0
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.behave: Callable[[BaseHTTPRequestHandler], bool] | None = None
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if headers.get("user-agent", "").startswith("ELB-HealthChecker/"):
                    assert (self.command, self.path) == ("GET", "/health")
                    upstream.checks += 1
                    self.send_response(upstream.health)
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                upstream.seen.append((self.command, self.path, headers, body))
                if upstream.behave is not None and upstream.behave(self):
                    return
                content = json.dumps({"by": upstream.name}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("x-served-by", upstream.name)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def drop(handler: BaseHTTPRequestHandler) -> bool:
    """Read the request, then cut the connection without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


@dataclass
class GatewayWorld:
    """The gateway in front of a monolith and a Task Service that are told what to do."""

    world: AppWorld
    monolith: Upstream
    task: Upstream
    http: httpx.Client
    api_id: str = ""
    integration: str = ""
    link: str = ""
    closed_link: str = ""
    listener: str = ""
    live_rule: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    vpc: str = ""
    process: Any = None

    def build(self, name: str) -> None:
        """Make API, listener, groups and rules. The Task Service's group is known to the gateway by name."""
        ec2, balancer = self.world.aws.client("ec2"), self.world.aws.client("elbv2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        zones = [item["ZoneName"] for item in ec2.describe_availability_zones()["AvailabilityZones"][:2]]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for number, zone in enumerate(zones)
        ]
        groups = [
            ec2.create_security_group(GroupName=f"{name}-{of}", Description=of, VpcId=vpc)["GroupId"]
            for of in ("balancer", "link", "stranger")
        ]
        from_link = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": groups[1]}]}
        ec2.authorize_security_group_ingress(GroupId=groups[0], IpPermissions=[from_link])
        api = self.world.aws.client("apigatewayv2")
        self.link, self.closed_link = (
            api.create_vpc_link(Name=name, SubnetIds=subnets, SecurityGroupIds=[group])["VpcLinkId"]
            for group in groups[1:]
        )
        made = balancer.create_load_balancer(Name=name, Subnets=subnets, SecurityGroups=groups[:1])
        self.vpc = vpc
        for number, side in enumerate(("monolith", "task")):
            self.groups[side] = self.make_group(f"{name}-{side}")
            balancer.register_targets(TargetGroupArn=self.groups[side], Targets=[{"Id": f"10.0.{number}.10"}])
        self.listener = balancer.create_listener(
            LoadBalancerArn=made["LoadBalancers"][0]["LoadBalancerArn"],
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.groups["monolith"]}],
        )["Listeners"][0]["ListenerArn"]
        path = {"Field": "path-pattern", "PathPatternConfig": {"Values": list(PATHS)}}
        header = {"HttpHeaderName": SMOKE_HEADER, "Values": [SMOKE_VALUE]}
        balancer.create_rule(
            ListenerArn=self.listener,
            Priority=109,
            Conditions=[{"Field": "http-header", "HttpHeaderConfig": header}, path],
            Actions=[self.forward(100)],
        )
        self.live_rule = balancer.create_rule(
            ListenerArn=self.listener, Priority=110, Conditions=[path], Actions=[self.forward(0)]
        )["Rules"][0]["RuleArn"]
        self._build_api(name)

    def _build_api(self, name: str) -> None:
        api = self.world.aws.client("apigatewayv2")
        self.api_id = api.create_api(Name=name, ProtocolType="HTTP")["ApiId"]
        authorizer = api.create_authorizer(
            ApiId=self.api_id,
            AuthorizerType="JWT",
            IdentitySource=["$request.header.Authorization"],
            Name="cognito",
            JwtConfiguration={"Issuer": self.world.issuer, "Audience": [self.world.client_id]},
        )["AuthorizerId"]
        self.integration = api.create_integration(
            ApiId=self.api_id,
            IntegrationType="HTTP_PROXY",
            IntegrationMethod="ANY",
            IntegrationUri=self.listener,
            ConnectionType="VPC_LINK",
            ConnectionId=self.link,
            PayloadFormatVersion="1.0",
        )["IntegrationId"]
        target = f"integrations/{self.integration}"
        for key in ROUTES:
            api.create_route(
                ApiId=self.api_id, RouteKey=key, AuthorizationType="JWT", AuthorizerId=authorizer, Target=target
            )
        api.create_route(ApiId=self.api_id, RouteKey="GET /health", Target=target)

    def make_group(self, name: str) -> str:
        """A target group without targets, checked as often as AWS allows; its ARN."""
        group = self.world.aws.client("elbv2").create_target_group(
            Name=name, Protocol="HTTP", Port=80, VpcId=self.vpc, TargetType="ip",
            HealthCheckPath="/health", HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2,
            HealthyThresholdCount=2, UnhealthyThresholdCount=2,
        )  # fmt: skip
        return str(group["TargetGroups"][0]["TargetGroupArn"])

    def health(self, side: str) -> dict[str, tuple[str, str | None]]:
        """State and reason of each target, as DescribeTargetHealth has them."""
        found = self.world.aws.client("elbv2").describe_target_health(TargetGroupArn=self.groups[side])
        return {
            item["Target"]["Id"]: (item["TargetHealth"]["State"], item["TargetHealth"].get("Reason"))
            for item in found["TargetHealthDescriptions"]
        }

    def forward(self, weight: int, sticky: int = 0) -> dict[str, Any]:
        """The live rule's action at this weight, as the program declares it: one group alone at 0 and at 100."""
        shares = (("monolith", 100 - weight), ("task", weight))
        groups = [{"TargetGroupArn": self.groups[side], "Weight": share} for side, share in shares if share]
        config: dict[str, Any] = {"TargetGroups": groups}
        if sticky:
            config["TargetGroupStickinessConfig"] = {"Enabled": True, "DurationSeconds": sticky}
        return {"Type": "forward", "ForwardConfig": config}

    def start(self, monolith_url: str | None = None, task_url: str | None = None) -> None:
        """Start the gateway's process and wait until it answers; other URLs than the upstreams' may be given."""
        port = free_port()
        targets = {
            self.groups["monolith"]: monolith_url or self.monolith.url,
            self.groups["task"]: task_url or self.task.url,
        }
        variables = {"GATEWAY_API": self.api_id, "GATEWAY_TARGETS": json.dumps(targets)}
        self.process = self.world.start("scripts.rehearsal.gateway.server", "--port", str(port), variables=variables)
        self.http.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        wait_for(f"http://127.0.0.1:{port}/__gateway/stats", self.process)

    def set_weight(self, weight: int, sticky: int = 0) -> None:
        """Change the live rule, and wait until the gateway has read it."""
        self.world.aws.client("elbv2").modify_rule(RuleArn=self.live_rule, Actions=[self.forward(weight, sticky)])
        wanted = {self.groups[side]: share for side, share in (("monolith", 100 - weight), ("task", weight)) if share}
        wait_until(
            lambda: self.stats()["weights"],
            lambda seen: seen == wanted,
            what="the gateway's weights",
            timeout=20,
            interval=0.02,
        )

    def stats(self, since: float = 0.0) -> dict[str, Any]:
        """What the gateway measured."""
        return dict(self.http.get("/__gateway/stats", params={"since": since}).raise_for_status().json())

    def send(self, method: str = "GET", path: str = "/api/tasks", **more: Any) -> httpx.Response:
        """One request with a valid token."""
        headers = {"Authorization": f"Bearer {self.world.tokens[2]}", **more.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **more)
