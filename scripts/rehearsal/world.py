"""The emulated AWS account of the rehearsal, and in it what a real account has before the plan starts."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from scripts.rehearsal.emulated.core import Aws
from scripts.rehearsal.emulated.publish import MINUTE_VARIABLE
from scripts.rehearsal.plan import REGION
from scripts.rehearsal.processes import begin, end, http_status
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.process import free_port, uninterrupted
from scripts.support.settings import PROJECT_ROOT
from scripts.support.wait import wait_until

#: The security group of the shell that a rehearsal's commands run in.
OPERATORS = "myteacher-operators"


class EmulatedAws:
    """moto's server as a process of its own, on a free port of this machine. Use it as a context manager.

    Args:
        log: a file for the server's output; none is kept without it.
        port: a fixed port, else a free one.
        minute: seconds that its minute of metrics has.
    """

    region = REGION

    def __init__(self, log: Path | None = None, port: int | None = None, minute: int = 60) -> None:
        self._minute = str(minute)
        self.port = port
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._aws: Aws | None = None

    @property
    def endpoint_url(self) -> str:
        """Where every emulated service answers."""
        if self.port is None:
            raise MigrationError("the emulated AWS is not started; call start() first")
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process else None

    def environment(self) -> dict[str, str]:
        """Variables that lead boto3, and so the emulated provider and every command, to this account."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",  # moto takes any; no real account knows this one
            "AWS_SESSION_TOKEN": "testing",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            MINUTE_VARIABLE: self._minute,
        }

    def client(self, service: str) -> Any:
        """The boto3 client of one emulated service, made once; safe to share between threads."""
        self._aws = self._aws or Aws(self.region, self.environment())
        return self._aws.client(service)

    def start(self, timeout: float = 30.0) -> EmulatedAws:
        """Start the server and wait until it answers.

        Raises:
            MigrationError: it ended at once.
            TimedOut: it did not answer within ``timeout`` seconds.
        """
        if self.port is None:
            self.port = free_port()
        module = "scripts.rehearsal.emulated.server"
        command = [sys.executable, "-m", module, "-H", "127.0.0.1", "-p", str(self.port)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        environment |= {"PYTHONPATH": str(PROJECT_ROOT), MINUTE_VARIABLE: self._minute}
        # Attaching one of AWS's managed policies needs moto to know it: emulated/server.py has which.
        environment["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
        # No machine image is asked for, and moto reads thousands at its start and at each reset.
        environment["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
        # What exists before the plan was validated long ago.
        environment["MOTO_ACM_VALIDATION_WAIT"] = "0"
        with uninterrupted():
            self._process = begin(command, environment, self._log)
        try:
            wait_until(
                self._answer,
                lambda status: status == 200,
                what=f"moto's server answers on port {self.port}",
                timeout=timeout,
                interval=0.05,
            )
        except TimedOut:
            self.stop()
            raise
        return self

    def _answer(self) -> int | str:
        if self._process is not None and self._process.poll() is not None:
            raise MigrationError(f"moto's server ended with exit {self._process.returncode} before it answered")
        return http_status(f"{self.endpoint_url}/moto-api/data.json")

    def reset(self) -> None:
        """Empty the account."""
        httpx.post(f"{self.endpoint_url}/moto-api/reset", timeout=30.0, trust_env=False).raise_for_status()

    def stop(self) -> None:
        """Stop the server and whatever it started; safe to call twice."""
        if self._process is not None and self._process.poll() is None:
            end(self._process, 5.0)
        self._process = None

    def __enter__(self) -> EmulatedAws:
        return self if self._process else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def build_world(aws: EmulatedAws) -> dict[str, object]:
    """Make what exists before the plan: network, load balancer with listener, cluster, user pool, source database.

    Returns:
        configuration values of a stack (camelCase keys) that name it; ``smokeHeaderValue`` and the DMS start
        positions are not among them.
    """
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    # Names of databases and tasks are looked up in it.
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{number}.0/24", AvailabilityZone=f"{aws.region}{zone}")[
            "Subnet"
        ]["SubnetId"]
        for number, zone in enumerate("ac")
    ]
    groups = {
        name: ec2.create_security_group(GroupName=name, Description=text, VpcId=vpc)["GroupId"]
        for name, text in {
            "myteacher-load-balancer": "The load balancer in front of the monolith",
            "myteacher-database": "The monolith's database",
            OPERATORS: "Shells and runners of operators",
        }.items()
    }
    aws.client("rds").create_db_instance(
        DBInstanceIdentifier="myteacher-production",
        DBInstanceClass="db.t3.medium",
        Engine="postgres",
        DBName="myteacher_production",
        AllocatedStorage=100,
        MasterUsername="postgres",
        ManageMasterUserPassword=True,
        VpcSecurityGroupIds=[groups["myteacher-database"]],
    )
    ec2.create_vpc_endpoint(
        VpcId=vpc,
        ServiceName=f"com.amazonaws.{aws.region}.secretsmanager",
        VpcEndpointType="Interface",
        SubnetIds=subnets,
        PrivateDnsEnabled=True,
    )
    listener, target_group = _load_balancer(aws, vpc, subnets, groups["myteacher-load-balancer"])
    cluster = aws.client("ecs").create_cluster(clusterName="myteacher-cluster")["cluster"]["clusterArn"]
    cognito = aws.client("cognito-idp")
    pool = cognito.create_user_pool(PoolName="myteacher")["UserPool"]["Id"]
    application = cognito.create_user_pool_client(
        UserPoolId=pool,
        ClientName="myteacher-web",
        ExplicitAuthFlows=["ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
    )["UserPoolClient"]["ClientId"]
    # A password that is no word: what is read of it is taken out of every later line.
    login = {"username": "task_replication", "password": secrets.token_urlsafe(18), "host": "127.0.0.1", "port": 5432}
    secret = aws.client("secretsmanager").create_secret(Name="myteacher/replication", SecretString=json.dumps(login))[
        "ARN"
    ]
    return {
        "environment": "staging",
        "region": aws.region,
        "vpcId": vpc,
        "privateSubnetIds": subnets,
        "listenerArn": listener,
        "listenerServerName": "api.myteacher.example",
        "loadBalancerSecurityGroupId": groups["myteacher-load-balancer"],
        "monolithTargetGroupArn": target_group,
        "clusterArn": cluster,
        "cognitoUserPoolId": pool,
        "cognitoClientIds": [application],
        "sourceHost": "127.0.0.1",
        "sourceInstanceIdentifier": "myteacher-production",
        "sourceSecurityGroupId": groups["myteacher-database"],
        "operatorSecurityGroupIds": [groups[OPERATORS]],
        "operatorReachesSource": True,
        "sourceSecretArn": secret,
        # moto keeps no certificates of DMS, and asks for none.
        "dmsCertificateArn": f"arn:aws:dms:{aws.region}:123456789012:cert:rds",
    }


def _load_balancer(aws: EmulatedAws, vpc: str, subnets: list[str], group: str) -> tuple[str, str]:
    """The monolith's load balancer; the ARNs of its HTTPS listener and of its target group."""
    elb = aws.client("elbv2")
    certificate = aws.client("acm").request_certificate(DomainName="api.myteacher.example")["CertificateArn"]
    balancer = elb.create_load_balancer(
        Name="myteacher", Subnets=subnets, SecurityGroups=[group], Scheme="internal", Type="application"
    )["LoadBalancers"][0]["LoadBalancerArn"]
    target_group = elb.create_target_group(
        Name="myteacher-monolith", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip", HealthCheckPath="/health"
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=target_group, Targets=[{"Id": "10.20.0.10", "Port": 80}])
    listener = elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTPS",
        Port=443,
        Certificates=[{"CertificateArn": certificate}],
        DefaultActions=[{"Type": "forward", "TargetGroupArn": target_group}],
    )["Listeners"][0]["ListenerArn"]
    # Rules of others, which the program's leave alone: another application's host in front, another path behind.
    refuse = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "403", "ContentType": "text/plain"}}
    for priority, condition, action in (
        (50, {"Field": "host-header", "HostHeaderConfig": {"Values": ["admin.myteacher.example"]}}, refuse),
        (
            200,
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api/users", "/api/users/*"]}},
            {"Type": "forward", "TargetGroupArn": target_group},
        ),
    ):
        elb.create_rule(ListenerArn=listener, Priority=priority, Conditions=[condition], Actions=[action])
    return str(listener), str(target_group)
