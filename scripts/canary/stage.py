"""What a canary command acts on, and how it is put together: a real stack by the Pulumi CLI, or the running rehearsal."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

from components.config import ConfigError, PlaceConfig
from components.config_values import part
from components.naming import ALARM_TOPIC, SERVICE_NAME, Naming
from scripts.canary.cloudwatch import CloudWatchMetrics
from scripts.canary.notices import Notices
from scripts.canary.service_control import ServiceControl
from scripts.canary.traffic import LoadBalancer, Metrics, find_rule, rule_of_outputs
from scripts.deployment.deployer import Deployer
from scripts.deployment.stack_file import StackFile
from scripts.support.aws import client
from scripts.support.errors import UsageError
from scripts.support.settings import STAGE_VARIABLE, Settings, stack_file


@dataclass(frozen=True)
class Emergency:
    """What an emergency acts on: no Pulumi, no outputs; the stack's file and the AWS API alone."""

    settings: Settings
    load_balancer: LoadBalancer
    #: What keeps a weight; the stack's file without the CLI, so that the next ``up`` carries it out.
    configuration: StackFile | Deployer
    service: ServiceControl | None = None
    notices: Notices = field(default_factory=lambda: Notices(None, None))
    #: Seconds since the Task Service last had a request; None where that cannot be known, as of metrics that come late.
    idle_seconds: Callable[[], float | None] = lambda: None

    def declared_weight(self) -> int:
        """The stack's ``canaryWeight``, percent."""
        return int(self.configuration.config().get("canaryWeight", 0))

    def highest_weight(self) -> int:
        """Of the declared weight and the load balancer's the higher one, percent. Raises MigrationError as either."""
        return max(self.declared_weight(), self.load_balancer.weight())


@dataclass(frozen=True)
class Stage(Emergency):
    """What a step acts on: the deployment and the figures, too."""

    configuration: Deployer
    metrics: Metrics = field(kw_only=True)

    @property
    def deployer(self) -> Deployer:
        """What carries the configuration out."""
        return self.configuration

    def smoke_headers(self) -> dict[str, str]:
        """The secret header that leads to the Task Service at every weight."""
        outputs = self.deployer.outputs()
        return {str(outputs["smokeHeaderName"]): str(outputs["smokeHeaderValue"])}

    def smoke_rule_leads(self) -> bool:
        """Whether it does, by the load balancer's own rule. Raises MigrationError when that cannot be read."""
        return self.load_balancer.leads_to_service(str(self.deployer.outputs()["smokeRuleArn"]), self.smoke_headers())


def _stand_in(settings: Settings) -> Stage | None:
    """The stage that the environment names instead of a deployed stack, or None.

    Raises:
        UsageError: what it names cannot be loaded.
    """
    if settings.stage is None:
        return None
    try:
        make = pkgutil.resolve_name(settings.stage)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"{STAGE_VARIABLE} is {settings.stage!r}, which cannot be loaded as module:function ({error}); unset it outside of a rehearsal"
        ) from None
    stage: Stage = make(settings)
    return stage


def _stack(settings: Settings) -> str:
    if settings.stack is None:
        raise UsageError("no stack is selected; name it with --stack staging|prod, or export PULUMI_STACK")
    return settings.stack


def build(settings: Settings) -> Stage:
    """The stage of the selected stack.

    Raises:
        UsageError: no stack is selected.
        Refused: the Pulumi CLI is not on PATH, or the stack is not deployed.
    """
    stand_in = _stand_in(settings)
    if stand_in is not None:
        return stand_in
    from scripts.deployment.cli_deployer import CliDeployer  # only here: an emergency needs nothing of Pulumi

    stack = _stack(settings)
    deployer = CliDeployer(stack, stack_file(stack).parent)
    outputs = deployer.outputs()
    region = str(outputs["listenerArn"]).split(":")[3]
    config = settings.config
    balancer = client("elbv2", region)
    return Stage(
        settings=settings,
        configuration=deployer,
        load_balancer=LoadBalancer(balancer, rule_of_outputs(outputs)),
        metrics=CloudWatchMetrics(
            client("cloudwatch", region), outputs, config.period_seconds, config.metric_delay_seconds
        ),
        service=ServiceControl(client("ecs", region), client("application-autoscaling", region), balancer, outputs),
        notices=Notices(client("sns", region), outputs.get("alarmTopicArn")),
    )


def build_emergency(settings: Settings) -> Emergency:
    """What an emergency needs, from the stack's file and the load balancer itself.

    Raises:
        UsageError: no stack is selected, or its file is not whole.
        Refused: the live rule is not where the file says.
        MigrationError: AWS cannot be reached.
    """
    stage = _stand_in(settings)
    if stage is not None:
        return stage
    stack = _stack(settings)
    file = StackFile(stack, stack_file(stack).parent)
    try:
        config = part(PlaceConfig, file.config(), file.path.name)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    region = config.region
    balancer = client("elbv2", region)
    rule = find_rule(balancer, config.listener_arn, config.live_rule_priority, config.monolith_target_group_arn)
    names = {"clusterArn": config.cluster_arn, "serviceName": SERVICE_NAME}
    return Emergency(
        settings,
        LoadBalancer(balancer, rule),
        file,
        ServiceControl(client("ecs", region), client("application-autoscaling", region), balancer, names),
        Notices(client("sns", region), Naming.of(config).arn("sns", ALARM_TOPIC)),
    )
