"""The local gateway as a process: routes, tokens, weights and failures, against the emulated API and load balancer."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from scripts.rehearsal.gateway.routes import BALANCER
from scripts.support.wait import wait_until
from tests.integration.rehearsal.app.app_world import AppWorld
from tests.integration.rehearsal.gateway.gateway_world import (
    ROUTES,
    SMOKE_HEADER,
    SMOKE_VALUE,
    GatewayWorld,
    Upstream,
    drop,
)


@pytest.fixture(scope="module")
def built(app_world: AppWorld) -> Iterator[GatewayWorld]:
    monolith, task = Upstream("monolith"), Upstream("task-service")
    with httpx.Client(trust_env=False, timeout=20.0) as http:
        gateway = GatewayWorld(app_world, monolith, task, http)
        try:
            gateway.build("gateway-test")
            gateway.start()
            yield gateway
        finally:
            monolith.stop()
            task.stop()


@pytest.fixture
def gateway(built: GatewayWorld) -> GatewayWorld:
    """At weight 0, both upstreams well, nothing seen."""
    for upstream in (built.monolith, built.task):
        upstream.behave = None
        upstream.seen.clear()
    built.set_weight(0)
    return built


def test_each_route_of_the_api_asks_for_a_token_and_leads_to_the_upstream(gateway: GatewayWorld) -> None:
    """Prevents a route without its authorizer, and one that leads nowhere."""
    for key in ROUTES:
        method, path = key.replace("{id}", "7").split(" ")
        assert gateway.http.request(method, path).status_code == 401
        assert gateway.http.request(method, path, headers={"Authorization": "Bearer x.y.z"}).status_code == 401
        assert gateway.send(method, path).json() == {"by": "monolith"}
    assert len(gateway.monolith.seen) == len(ROUTES)
    assert gateway.http.get("/health").json() == {"by": "monolith"}


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/api/tasks/7"), ("GET", "/api/users"), ("GET", "/"), ("POST", "/health")]
)
def test_what_is_no_route_is_not_found_and_reaches_nobody(gateway: GatewayWorld, method: str, path: str) -> None:
    """Prevents an endpoint that works in the rehearsal and not on API Gateway."""
    assert gateway.send(method, path).status_code == 404
    assert gateway.monolith.seen == []


def test_a_request_arrives_as_it_was_sent(gateway: GatewayWorld) -> None:
    """Prevents a gateway that decodes paths, loses the token, or adds to the body."""
    body = json.dumps({"title": "宿題📚"}, ensure_ascii=False).encode()
    answer = gateway.send("PUT", "/api/tasks/a%2Fb?q=%E5%AE%BF&q=2", content=body, headers={"X-Custom": "kept"})
    assert answer.headers["x-served-by"] == "monolith"
    ((method, path, headers, content),) = gateway.monolith.seen
    assert (method, path, content) == ("PUT", "/api/tasks/a%2Fb?q=%E5%AE%BF&q=2", body)
    assert (headers["x-custom"], headers["content-length"]) == ("kept", str(len(body)))
    assert headers["authorization"].startswith("Bearer ey")


def test_the_weight_splits_requests_and_the_stats_measure_it(gateway: GatewayWorld) -> None:
    """Prevents a canary that the gates cannot see."""
    began = time.time()
    assert {gateway.send().json()["by"] for _ in range(20)} == {"monolith"}
    gateway.set_weight(50)
    middle = time.time()
    seen = Counter(gateway.send().json()["by"] for _ in range(200))
    assert seen["task-service"] == pytest.approx(100, abs=40)
    stats = gateway.stats(middle)
    measured = stats["target_groups"]
    assert {side: measured[arn]["requests"] for side, arn in gateway.groups.items()} == {
        "monolith": seen["monolith"],
        "task": seen["task-service"],
    }
    assert stats["share"][gateway.groups["task"]] == pytest.approx(seen["task-service"] / 200, abs=0.001)
    assert 0 < measured[gateway.groups["task"]]["p50_ms"] <= measured[gateway.groups["task"]]["p95_ms"]
    assert gateway.stats(began)["api"]["requests"] == 220
    gateway.set_weight(100)
    assert {gateway.send().json()["by"] for _ in range(20)} == {"task-service"}


def test_a_browser_stays_on_the_side_that_it_met_until_the_rule_names_it_no_more(gateway: GatewayWorld) -> None:
    """Prevents a rehearsal that shows users who change sides where AWS's cookie would have kept them, or the other way round."""
    gateway.set_weight(50, sticky=600)
    began = time.time()
    with httpx.Client(base_url=gateway.http.base_url, trust_env=False) as browser:
        headers = {"Authorization": f"Bearer {gateway.world.tokens[2]}"}

        def visit() -> str:
            return str(browser.get("/api/tasks", headers=headers).raise_for_status().json()["by"])

        first = visit()
        assert {visit() for _ in range(20)} == {first}
        side = "task" if first == "task-service" else "monolith"
        gateway.set_weight(1 if side == "task" else 99, sticky=600)
        assert {visit() for _ in range(20)} == {first}
        stats = gateway.stats(began)
        assert (stats["share"][gateway.groups[side]], stats["share_of_new"][gateway.groups[side]]) == (1.0, 1.0)
        # Who keeps no cookie is new each time.
        began = time.time()
        others: Counter[str] = Counter()
        for _ in range(60):
            gateway.http.cookies.clear()
            others[gateway.send().json()["by"]] += 1
        assert others[first] < 30
        assert visit() == first
        stats = gateway.stats(began)
        assert stats["share_of_new"][gateway.groups[side]] == pytest.approx(others[first] / 60, abs=0.001)
        assert stats["share"][gateway.groups[side]] == pytest.approx((others[first] + 1) / 61, abs=0.001)
        gateway.set_weight(0 if side == "task" else 100)
        assert visit() != first
        assert "set-cookie" not in browser.get("/api/tasks", headers=headers).headers


def test_the_smoke_header_reaches_the_task_service_at_weight_zero_and_does_not_count(gateway: GatewayWorld) -> None:
    """Prevents a smoke check of the monolith, and a share that smoke checks blur."""
    began = time.time()
    assert gateway.send(headers={SMOKE_HEADER: SMOKE_VALUE}).json() == {"by": "task-service"}
    assert gateway.send(headers={SMOKE_HEADER: "guess"}).json() == {"by": "monolith"}
    stats = gateway.stats(began)
    assert stats["share"][gateway.groups["task"]] == 0.0
    assert stats["target_groups"][gateway.groups["task"]]["requests"] == 1
    assert SMOKE_VALUE not in json.dumps(stats)


def test_the_balancer_itself_judges_no_token(gateway: GatewayWorld) -> None:
    """Prevents a rehearsal in which nothing shows whether the service judges tokens: beside the API it is reached unjudged."""
    gateway.set_weight(0)
    seen = len(gateway.monolith.seen)
    assert gateway.http.get("/api/tasks?limit=1").status_code == 401
    assert len(gateway.monolith.seen) == seen
    assert gateway.http.get(f"{BALANCER}/api/tasks?limit=1").json() == {"by": "monolith"}
    assert gateway.monolith.seen[-1][1] == "/api/tasks?limit=1"
    smoke = gateway.http.get(f"{BALANCER}/api/tasks", headers={SMOKE_HEADER: SMOKE_VALUE})
    assert smoke.json() == {"by": "task-service"}


def test_a_request_under_way_ends_where_it_began_when_the_rule_changes(gateway: GatewayWorld) -> None:
    """Prevents a rollback that cuts off, or repeats, what the Task Service was doing."""
    arrived, go_on = threading.Event(), threading.Event()

    def slow(_: BaseHTTPRequestHandler) -> bool:
        arrived.set()
        assert go_on.wait(10)
        return False

    gateway.set_weight(100)
    gateway.task.behave = slow
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(gateway.send("POST").json()["by"]))
    thread.start()
    assert arrived.wait(10)
    gateway.set_weight(0)
    assert gateway.stats()["target_groups"][gateway.groups["task"]]["in_flight"] == 1
    assert gateway.send().json() == {"by": "monolith"}
    go_on.set()
    thread.join()
    assert answers == ["task-service"]
    assert gateway.stats()["target_groups"][gateway.groups["task"]]["in_flight"] == 0
    assert len(gateway.task.seen) == 1


@pytest.mark.parametrize("warm", [False, True])
def test_a_write_that_breaks_off_is_a_502_and_is_never_sent_again(gateway: GatewayWorld, warm: bool) -> None:
    """Prevents a task that is made twice, on a new connection and on a kept one."""
    if warm:
        gateway.send()
        gateway.monolith.seen.clear()
    began = time.time()
    gateway.monolith.behave = drop
    assert gateway.send("POST", content=b"{}").status_code == 502
    assert len(gateway.monolith.seen) == 1
    assert gateway.stats(began)["target_groups"][gateway.groups["monolith"]]["5xx"] == 1
    gateway.monolith.behave = None
    assert gateway.send("POST", content=b"{}").status_code == 200


def test_what_the_target_answers_passes_through_and_who_is_down_is_a_502(gateway: GatewayWorld) -> None:
    """Prevents errors that the gate does not count: a refused connection is the load balancer's own 502 (its troubleshooting page)."""

    def fail(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(418)
        handler.send_header("content-length", "0")
        handler.end_headers()
        return True

    gateway.monolith.behave = fail
    assert gateway.send().status_code == 418
    began = time.time()
    down = Upstream("down")
    down.stop()
    with httpx.Client(trust_env=False, timeout=20.0) as http:
        other = GatewayWorld(gateway.world, gateway.monolith, down, http)
        other.build("gateway-down")
        other.start()
        try:
            other.set_weight(100)
            assert other.send().status_code == 502
            assert other.stats(began)["target_groups"][other.groups["task"]]["5xx"] == 1
        finally:
            other.process.terminate()
            other.process.wait(10)


def test_an_answer_that_the_api_does_not_wait_for_is_a_503(gateway: GatewayWorld) -> None:
    """Prevents a rehearsal in which a slow answer arrives that AWS's users never see."""
    api = gateway.world.aws.client("apigatewayv2")
    integration = {"ApiId": gateway.api_id, "IntegrationId": gateway.integration}

    def slow(_: BaseHTTPRequestHandler) -> bool:
        # The time itself: longer than the API waits, and shorter than the load balancer does.
        time.sleep(0.5)  # noqa: TID251
        return False

    gateway.monolith.behave = slow
    try:
        api.update_integration(**integration, TimeoutInMillis=200)
        _becomes(gateway, 503)
        # The load balancer itself waits longer.
        assert gateway.http.get(f"{BALANCER}/api/tasks").json() == {"by": "monolith"}
    finally:
        api.update_integration(**integration, TimeoutInMillis=30_000)
        _becomes(gateway, 200)


def test_answers_without_a_body_and_head_keep_the_connection_in_step(gateway: GatewayWorld) -> None:
    """Prevents an answer that is read as part of the next one."""

    def empty(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(204)
        handler.end_headers()
        return True

    for _ in range(3):
        gateway.monolith.behave = empty
        assert (gateway.send("DELETE", "/api/tasks/7").status_code, gateway.monolith.seen[-1][0]) == (204, "DELETE")
        gateway.monolith.behave = None
        assert gateway.send().json() == {"by": "monolith"}


def test_when_the_apis_are_silent_the_last_rules_stay_and_it_says_so(gateway: GatewayWorld) -> None:
    """Prevents an outage of the control plane that stops the traffic."""
    gateway.set_weight(100)
    pid = gateway.world.aws.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: gateway.stats()["stale"], bool, what="rules that are stale", timeout=30)
        assert gateway.send().json() == {"by": "task-service"}
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: gateway.stats()["stale"], lambda stale: not stale, what="rules of now", timeout=30)


def test_a_terminated_gateway_answers_what_it_has_taken(app_world: AppWorld) -> None:
    """Prevents a deployment of the gateway that fails requests."""
    monolith, task = Upstream("monolith"), Upstream("task-service")
    arrived, go_on = threading.Event(), threading.Event()

    def slow(_: BaseHTTPRequestHandler) -> bool:
        arrived.set()
        assert go_on.wait(10)
        return False

    try:
        with httpx.Client(trust_env=False, timeout=20.0) as http:
            gateway = GatewayWorld(app_world, monolith, task, http)
            gateway.build("gateway-term")
            gateway.start()
            monolith.behave = slow
            answers: list[int] = []
            thread = threading.Thread(target=lambda: answers.append(gateway.send("POST").status_code))
            thread.start()
            assert arrived.wait(10)
            gateway.process.send_signal(signal.SIGTERM)
            port = gateway.http.base_url.port
            wait_until(lambda: _listens(port), lambda more: not more, what="its port to be closed", timeout=10)
            assert gateway.process.poll() is None
            go_on.set()
            thread.join()
            assert answers == [200]
            gateway.process.wait(10)
    finally:
        monolith.stop()
        task.stop()


def _listens(port: int | None) -> bool:
    """By a connection of its own: one that is kept alive may be answered once more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _becomes(gateway: GatewayWorld, status: int, path: str = "/api/tasks") -> None:
    """Wait until the gateway has read what was changed."""
    wait_until(lambda: gateway.send(path=path).status_code, lambda seen: seen == status, what=f"{status}", timeout=15)


def test_tls_goes_to_a_listener_that_speaks_it_and_to_no_other(gateway: GatewayWorld) -> None:
    """Prevents a rehearsal that passes with a `listenerProtocol` that is not the listener's: on AWS nothing would answer."""
    aws = gateway.world.aws
    balancer, api = aws.client("elbv2"), aws.client("apigatewayv2")
    certificate = aws.client("acm").request_certificate(DomainName="api.example.com")["CertificateArn"]
    integration = {"ApiId": gateway.api_id, "IntegrationId": gateway.integration}
    try:
        api.update_integration(**integration, TlsConfig={"ServerNameToVerify": "api.example.com"})
        _becomes(gateway, 503)
        secure = {"Protocol": "HTTPS", "Certificates": [{"CertificateArn": certificate}]}
        balancer.modify_listener(ListenerArn=gateway.listener, **secure)
        _becomes(gateway, 200)
        api.update_integration(**integration, TlsConfig={})
        _becomes(gateway, 400)
    finally:
        api.update_integration(**integration, TlsConfig={})
        balancer.modify_listener(ListenerArn=gateway.listener, Protocol="HTTP")
        _becomes(gateway, 200)


def test_a_link_whose_group_nobody_lets_in_reaches_nothing(gateway: GatewayWorld) -> None:
    """Prevents a rehearsal that passes without the rule that lets the VPC link in: on AWS every request would end in a 503."""
    api = gateway.world.aws.client("apigatewayv2")
    integration = {"ApiId": gateway.api_id, "IntegrationId": gateway.integration}
    try:
        api.update_integration(**integration, ConnectionId=gateway.closed_link)
        _becomes(gateway, 503)
    finally:
        api.update_integration(**integration, ConnectionId=gateway.link)
        _becomes(gateway, 200)


def test_rules_of_others_answer_as_they_would_and_hosts_are_what_the_api_sends(gateway: GatewayWorld) -> None:
    """Prevents a rule in front that the rehearsal does not see, and a condition on hosts that nothing through the API meets."""
    aws = gateway.world.aws
    balancer, api = aws.client("elbv2"), aws.client("apigatewayv2")
    integration = {"ApiId": gateway.api_id, "IntegrationId": gateway.integration}
    oidc = {
        **{"Issuer": "https://id.example.com", "AuthorizationEndpoint": "https://id.example.com/a", "ClientId": "x"},
        **{"TokenEndpoint": "https://id.example.com/t", "UserInfoEndpoint": "https://id.example.com/u"},
        "ClientSecret": "none",
    }
    moved = {"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301", "Host": "new.example.com"}}
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "410", "ContentType": "text/plain"}}
    login = [
        {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": oidc},
        {**gateway.forward(0), "Order": 2},
    ]
    made = []
    try:
        for priority, host, actions in ((10, "old.*", [moved]), (11, "GONE.example.com", [fixed]), (12, "in.*", login)):
            condition = {"Field": "host-header", "HostHeaderConfig": {"Values": [host]}}
            rule = balancer.create_rule(
                ListenerArn=gateway.listener, Priority=priority, Conditions=[condition], Actions=actions
            )
            made.append(rule["Rules"][0]["RuleArn"])
        for host, status in (("old.example.com", 301), ("gone.example.com", 410), ("in.example.com", 302)):
            api.update_integration(**integration, RequestParameters={"overwrite:header.host": host})
            _becomes(gateway, status)
        api.update_integration(**integration, RequestParameters={"overwrite:header.host": "api.example.com"})
        _becomes(gateway, 200)
    finally:
        for arn in made:
            balancer.delete_rule(RuleArn=arn)


def test_pages_of_other_origins_are_let_in_by_the_api_and_not_by_the_application(gateway: GatewayWorld) -> None:
    """Prevents a page that works in the rehearsal and that every browser refuses on AWS, or the other way round."""
    question = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    ask = gateway.http.options
    assert ask("/api/tasks", headers=question).status_code == 404
    api = gateway.world.aws.client("apigatewayv2")
    cors = {"AllowOrigins": ["https://app.example.com"], "AllowMethods": ["POST"], "AllowHeaders": ["authorization"]}
    api.update_api(ApiId=gateway.api_id, CorsConfiguration=cors)
    try:
        answer = wait_until(
            lambda: ask("/api/tasks", headers=question), lambda seen: seen.status_code == 204, what="204", timeout=15
        )
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert answer.headers["access-control-allow-methods"] == "POST"
        strange = ask("/api/tasks", headers={**question, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in strange.headers
        assert gateway.monolith.seen == []
        sent = gateway.send("POST", headers={"Origin": "https://app.example.com"})
        assert sent.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "access-control-allow-origin" not in gateway.send().headers
        # Without this a browser keeps no cookie of the load balancer's for a page of another origin, and sends none.
        assert "access-control-allow-credentials" not in sent.headers
        api.update_api(ApiId=gateway.api_id, CorsConfiguration={**cors, "AllowCredentials": True})
        origin = {"Origin": "https://app.example.com"}
        wait_until(
            lambda: gateway.send(headers=origin).headers.get("access-control-allow-credentials"),
            lambda seen: seen == "true",
            what="access-control-allow-credentials",
            timeout=15,
        )
    finally:
        api.delete_cors_configuration(ApiId=gateway.api_id)
