"""The existing listener: what it speaks, and who answers requests there before the two rules and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from components.config_stack import StackConfig
from components.naming import TASK_ROUTES, Naming
from scripts.preflight.account import routing
from scripts.preflight.account.asking import Clients, pages, tried
from scripts.preflight.account.routing import Plan
from scripts.preflight.documents import Check, Status
from scripts.support.errors import MigrationError
from scripts.support.listener_rules import Rule, parse_rule, read_rules

#: Rules of a load balancer beside the default ones, until AWS raises it (Elastic Load Balancing, 'Quotas for your
#: Application Load Balancers').
RULES = 100


def checks(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """Whether the listener is there and speaks what the file says, and what the live rule would change for whom."""
    elb = aws("elbv2")
    try:
        listener = elb.describe_listeners(ListenerArns=[config.listener_arn])["Listeners"][0]
    except elb.exceptions.ListenerNotFoundException:
        remedy = "correct listenerArn: aws elbv2 describe-listeners"
        yield Check("listener: listenerArn", "fail", f"{config.listener_arn} does not exist", remedy)
        return
    yield from _speaks(config, listener)
    yield from tried("listener: load balancer", partial(_balancer, config, elb, str(listener["LoadBalancerArn"])))
    yield from tried("listener: monolith's target group", partial(_monolith, config, elb))
    if config.listener_protocol == "HTTPS":
        yield from tried("listener: certificate", partial(_certified, config, elb, aws))
    if config.custom_domain_name is not None:
        yield from tried("listener: custom domain", partial(_domain, config, aws))
    yield from tried("listener: number of rules", partial(_number, config, elb, str(listener["LoadBalancerArn"])))
    yield from tried("listener: rules", partial(_rules, config, elb))


def _speaks(config: StackConfig, listener: Mapping[str, Any]) -> Iterator[Check]:
    found = f"{listener['Protocol']} on port {listener['Port']}"
    said = f"{config.listener_protocol} on port {config.listener_port}"
    yield Check(
        "listener: protocol and port",
        "pass" if found == said else "fail",
        f"{found}; limit: {said}, which API Gateway speaks and its security group lets through",
        "correct listenerProtocol and listenerPort, or name another listener",
    )
    if listener["Protocol"] == "HTTP":
        yield Check(
            "listener: tokens",
            "warn",
            "tokens pass there unencrypted, between the VPC link and the load balancer",
            "name an HTTPS listener and set listenerProtocol: HTTPS",
        )


def _balancer(config: StackConfig, elb: Any, arn: str) -> Iterator[Check]:
    """The VPC link is let in by the group that the file names, and comes from the VPC that it names."""
    balancer = elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"][0]
    groups, vpc = balancer.get("SecurityGroups", []), balancer["VpcId"]
    fine = config.load_balancer_security_group_id in groups and vpc == config.vpc_id
    yield Check(
        "listener: load balancer",
        "pass" if fine else "fail",
        f"it is in {vpc} and has {', '.join(groups) or 'no security group'}; limit: {config.vpc_id} and {config.load_balancer_security_group_id}",
        "correct vpcId and loadBalancerSecurityGroupId: aws elbv2 describe-load-balancers",
    )


def _monolith(config: StackConfig, elb: Any) -> Iterator[Check]:
    name, arn = "listener: monolith's target group", config.monolith_target_group_arn
    remedy = "correct monolithTargetGroupArn: aws elbv2 describe-target-groups"
    try:
        group = elb.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"][0]
    except elb.exceptions.TargetGroupNotFoundException:
        yield Check(name, "fail", f"{arn} does not exist", remedy)
        return
    # A target group serves one load balancer (Elastic Load Balancing, 'Quotas for your Application Load Balancers').
    balancer = config.listener_arn.split(":listener/")[1].rpartition("/")[0]
    used = [one.split(":loadbalancer/")[1] for one in group.get("LoadBalancerArns", [])]
    yield Check(
        name,
        "pass" if balancer in used else "fail",
        f"it is behind {', '.join(used) or 'no load balancer'}; limit: {balancer}, the listener's, as it answers there today",
        remedy,
    )
    yield _bound(config, elb, arn)


def _bound(config: StackConfig, elb: Any, arn: str) -> Check:
    """Elastic Load Balancing, 'Action types for listener rules' (a group with sticky sessions among several) and 'Sticky sessions'
    (application-based ones do not work there): a rule of two groups is refused, or users lose the target that they are bound to."""
    held = elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    attributes = {item["Key"]: item["Value"] for item in held}
    bound, by = attributes.get("stickiness.enabled") == "true", attributes.get("stickiness.type")
    status: Status = "pass"
    if bound and not config.canary_sticky_seconds:
        status = "fail"
    elif bound and by == "app_cookie":
        status = "warn"
    return Check(
        "listener: users bound to a target of the monolith",
        status,
        f"{by if bound else 'none are'}, canaryStickySeconds {config.canary_sticky_seconds}; limit: none, or lb_cookie beside canaryStickySeconds "
        "above 0: AWS refuses a rule of two groups otherwise, and between 0 and 100 % app_cookie binds nobody",
        "set canaryStickySeconds, or unbind them: aws elbv2 modify-target-group-attributes --attributes Key=stickiness.enabled,Value=false "
        f"--target-group-arn {arn}",
    )


def certificate_names(aws: Clients, arn: str) -> list[str]:
    """The names in a certificate of ACM; none while it is not issued."""
    held = aws("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    return [held["DomainName"], *held.get("SubjectAlternativeNames", ())] if held["Status"] == "ISSUED" else []


def _covers(names: list[str], name: str) -> bool:
    """Whether a certificate is for ``name``; a wildcard stands for one label (RFC 6125, 6.4.3)."""
    return name in names or f"*.{name.partition('.')[2]}" in names


def _certified(config: StackConfig, elb: Any, aws: Clients) -> Iterator[Check]:
    """API Gateway answers 5xx where no certificate of the listener bears the name that it verifies."""
    described = pages(elb, "describe_listener_certificates", "Certificates", ListenerArn=config.listener_arn)
    listed = [str(item["CertificateArn"]) for item in described]
    names = [name for arn in listed if ":acm:" in arn for name in certificate_names(aws, arn)]
    unread = [arn for arn in listed if ":acm:" not in arn]
    yield Check(
        "listener: certificate",
        "pass" if _covers(names, str(config.listener_server_name)) else "warn" if unread else "fail",
        f"it is for {', '.join(sorted(set(names))) or 'no name, as none is issued'}; limit: {config.listener_server_name}"
        + "".join(f"; {arn} is kept by IAM, whose names are not read here" for arn in unread),
        "set listenerServerName to a name in the listener's certificate: aws acm describe-certificate",
    )


def _domain(config: StackConfig, aws: Clients) -> Iterator[Check]:
    names = certificate_names(aws, str(config.custom_domain_certificate_arn))
    yield Check(
        "listener: custom domain",
        "pass" if _covers(names, str(config.custom_domain_name)) else "fail",
        f"its certificate is for {', '.join(sorted(set(names))) or 'no name, as it is not issued'}; limit: {config.custom_domain_name}",
        "have ACM issue a certificate for it in the stack's region, and set customDomainCertificateArn",
    )


def _number(config: StackConfig, elb: Any, balancer: str) -> Iterator[Check]:
    listeners = [
        str(one["ListenerArn"]) for one in pages(elb, "describe_listeners", "Listeners", LoadBalancerArn=balancer)
    ]
    rules = {arn: [rule for rule in read_rules(elb, arn) if not rule["IsDefault"]] for arn in listeners}
    mine, _ = _ours(config, elb, rules[config.listener_arn])
    amount = sum(map(len, rules.values())) - len(mine) + 2
    yield Check(
        "listener: number of rules",
        "pass" if amount <= RULES else "warn",
        f"{amount} with ours; limit: {RULES} over all listeners of a load balancer, unless AWS raised it",
        "remove rules, or ask for more: Service Quotas, 'Rules per Application Load Balancer'",
    )


def _rules(config: StackConfig, elb: Any) -> Iterator[Check]:
    described = read_rules(elb, config.listener_arn)
    mine, taken = _ours(config, elb, described)
    for rule in taken:
        yield Check(
            "listener: priorities",
            "fail",
            f"priority {rule['Priority']} is taken by {rule['RuleArn']}",
            "set liveRulePriority to a free one with a free one right above it (one less): aws elbv2 describe-rules",
        )
    others = [rule for rule in described if rule not in mine]
    plan = Plan(config.live_rule_priority, config.host_headers, config.monolith_target_group_arn)
    try:
        yield from judge([parse_rule(rule) for rule in others if rule not in taken], plan, Naming.of(config).prefix)
    except MigrationError as error:
        remedy = "look at the listener's rules yourself: who answers /api/tasks for whom, before and after"
        yield Check("listener: who answers", "fail", f"cannot be judged: {error}", remedy)


def _ours(
    config: StackConfig, elb: Any, described: list[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The rules at our two priorities: those that bear the program's tags, and those of others."""
    places = {str(config.live_rule_priority - 1): "smoke", str(config.live_rule_priority): "live"}
    there = [rule for rule in described if rule["Priority"] in places]
    tags = {}
    if there:
        arns = [rule["RuleArn"] for rule in there]
        for item in elb.describe_tags(ResourceArns=arns)["TagDescriptions"]:
            tags[item["ResourceArn"]] = {tag["Key"]: tag["Value"] for tag in item["Tags"]}
    prefix = Naming.of(config).prefix
    mine = [
        rule for rule in there if tags.get(rule["RuleArn"], {}).get("Name") == f"{prefix}-{places[rule['Priority']]}"
    ]
    return mine, [rule for rule in there if rule not in mine]


def judge(others: list[Rule], plan: Plan, task_group: str) -> Iterator[Check]:
    """What the two rules would change. Pure.

    Args:
        others: the listener's rules without ours.
        task_group: what the Task Service's target group is called.
    """
    yield from _changed(others, plan)
    yield from _kept_away(others, plan)
    yield from _smoke(others, plan)
    for told, routes in routing.who_answers(others, plan, task_group):
        tasks = [route for route in routes if route in TASK_ROUTES.values()]
        named = "all eight task routes" if len(tasks) == len(TASK_ROUTES) else ", ".join(tasks)
        rest = [route for route in routes if route not in tasks]
        what = " and ".join(word for word in (named, *rest) if word)
        yield Check(f"listener: who answers {what}", "pass", told)


def _changed(others: list[Rule], plan: Plan) -> Iterator[Check]:
    for touched in routing.changed_at_zero(others, plan):
        rule = touched.rule
        name = f"listener: weight 0 and {_called(rule)}"
        if routing.only_to(rule, plan.monolith):
            detail = f"{routing.words(rule)} binds clients to its group, the live rule does not: {touched.where()}"
            yield Check(name, "warn", detail, "take the stickiness of that rule away; it has one group")
            continue
        may = "answers" if touched.certain else "may answer"
        yield Check(
            name,
            "fail",
            f"{routing.words(rule)} {may} {touched.where()} today; at weight 0 the live rule would send them to the monolith",
            "set hostHeaders to the hosts whose task requests the monolith answers today"
            + ("" if rule.is_default else f", or liveRulePriority to a free one behind {rule.priority}"),
        )


def _kept_away(others: list[Rule], plan: Plan) -> Iterator[Check]:
    for touched in routing.kept_away(others, plan):
        rule = touched.rule
        to_monolith = rule.share(plan.monolith) > 0
        if touched.certain and _of_a_host(rule, plan) and not to_monolith:
            continue  # another application's, today as afterwards
        yield Check(
            f"listener: weight 100 and {_called(rule)}",
            "fail" if touched.certain or to_monolith else "warn",
            f"{routing.words(rule)} stands in front and {'takes' if touched.certain else 'may take'} {touched.where()}: they would not reach "
            f"the Task Service{', and the monolith would go on answering' if to_monolith else ''}",
            f"set liveRulePriority to a free one in front of {rule.priority} (with a free one right above it), or hostHeaders to hosts that "
            "this rule leaves alone",
        )


def _smoke(others: list[Rule], plan: Plan) -> Iterator[Check]:
    for touched in routing.before_the_smoke_rule(others, plan):
        if not _of_a_host(touched.rule, plan):
            yield Check(
                f"listener: smoke rule and {_called(touched.rule)}",
                "warn",
                f"{routing.words(touched.rule)} stands in front and takes {touched.where()}: `api-check --smoke` would not see the Task "
                "Service's",
                f"set liveRulePriority to a free one in front of {touched.rule.priority}",
            )


def _of_a_host(rule: Rule, plan: Plan) -> bool:
    """Whether a rule is for hosts that it names, where the file names none."""
    return not plan.hosts and any(condition["Field"] == "host-header" for condition in rule.conditions)


def _called(rule: Rule) -> str:
    return "the default action" if rule.is_default else f"rule {rule.priority}"
