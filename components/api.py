"""The HTTP API: eight task routes behind a Cognito JWT authorizer, and /health without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.config_stack import StackConfig
from components.logs import log_group
from components.naming import API_LOG_GROUP, API_NAME, HEALTH_ROUTE, TASK_ROUTES, Naming
from components.network import security_group

#: Longest that API Gateway waits for the listener, in ms; an HTTP API allows 30,000.
INTEGRATION_TIMEOUT_MS = 29_000
#: Requests per second and burst; ten times the load test. The provider sends 0 for a limit that is left out beside
#: other settings of a stage, and 0 refuses every request.
THROTTLE_RATE = 500
THROTTLE_BURST = 1000

#: Fields of an access log line. No token, no header, no body; `integrationStatus` tells the gateway's errors from ours.
ACCESS_LOG_FIELDS = {
    "requestId": "$context.requestId",
    "requestTime": "$context.requestTime",
    "routeKey": "$context.routeKey",
    "status": "$context.status",
    "integrationStatus": "$context.integrationStatus",
    "integrationLatency": "$context.integrationLatency",
    "responseLatency": "$context.responseLatency",
    "error": "$context.error.message",
}


#: Seconds for which a browser keeps the answer to its question before a request of another origin.
CORS_MAX_AGE = 3600


@dataclass(frozen=True)
class TaskApiArgs:
    """Arguments of :class:`TaskApi`."""

    naming: Naming
    config: StackConfig
    log_key_arn: pulumi.Input[str]


class TaskApi(Component):
    """HTTP API with its stage, authorizer, VPC link, integration and routes."""

    component = "api"
    api_id: pulumi.Output[str]
    api_endpoint: pulumi.Output[str]
    domain_target: pulumi.Output[str] | None
    """Where the team's DNS has to lead the domain; None without one."""
    link_security_group_id: pulumi.Output[str]

    def __init__(self, name: str, args: TaskApiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{name}-api", args.naming, opts)
        config = args.config

        api = aws.apigatewayv2.Api(
            f"{name}-api",
            name=API_NAME,
            protocol_type="HTTP",
            description="Task endpoints of MyTeacher",
            cors_configuration=_cors(config.cors_allowed_origins, cookies=config.canary_sticky_seconds > 0),
            tags=self.tags(API_NAME),
            opts=self.child,
        )
        stage = self._declare_stage(name, args, api)
        authorizer = aws.apigatewayv2.Authorizer(
            f"{name}-authorizer",
            api_id=api.id,
            name="cognito",
            authorizer_type="JWT",
            identity_sources=["$request.header.Authorization"],
            jwt_configuration=aws.apigatewayv2.AuthorizerJwtConfigurationArgs(
                issuer=f"https://cognito-idp.{self.naming.region}.amazonaws.com/{config.cognito_user_pool_id}",
                audiences=config.cognito_client_ids,
            ),
            opts=self.child,
        )
        group = security_group(self, name, vpc_id=config.vpc_id, purpose="API Gateway VPC link", whose="vpc-link")
        link = aws.apigatewayv2.VpcLink(
            f"{name}-vpc-link",
            name=API_NAME,
            subnet_ids=config.private_subnet_ids,
            security_group_ids=[group.id],
            tags=self.tags(API_NAME),
            opts=self.child,
        )
        integration = aws.apigatewayv2.Integration(
            f"{name}-integration",
            api_id=api.id,
            description="The existing listener of the load balancer",
            integration_type="HTTP_PROXY",
            integration_method="ANY",
            # A private integration names the listener by its ARN (API Gateway, 'Private integrations for HTTP APIs').
            integration_uri=config.listener_arn,
            connection_type="VPC_LINK",
            connection_id=link.id,
            payload_format_version="1.0",
            timeout_milliseconds=INTEGRATION_TIMEOUT_MS,
            # API Gateway speaks TLS to the listener only when it is told which name the certificate bears.
            tls_config=aws.apigatewayv2.IntegrationTlsConfigArgs(server_name_to_verify=config.listener_server_name)
            if config.listener_server_name and config.listener_protocol == "HTTPS"
            else None,
            # A rule's condition on hosts has to be met by what API Gateway sends, whatever the client called.
            request_parameters={"overwrite:header.host": config.host_headers[0]} if config.host_headers else None,
            opts=self.child,
        )
        target = pulumi.Output.concat("integrations/", integration.id)
        for suffix, route_key in {**TASK_ROUTES, "health": HEALTH_ROUTE}.items():
            guarded = route_key != HEALTH_ROUTE
            aws.apigatewayv2.Route(
                f"{name}-route-{suffix}",
                api_id=api.id,
                route_key=route_key,
                target=target,
                authorization_type="JWT" if guarded else "NONE",
                authorizer_id=authorizer.id if guarded else None,
                opts=self.child,
            )

        self.api_id = api.id
        self.api_endpoint = api.api_endpoint
        self.domain_target = self._declare_domain(name, config, api, stage)
        self.link_security_group_id = group.id
        self.declared()

    def _declare_domain(
        self, name: str, config: StackConfig, api: aws.apigatewayv2.Api, stage: aws.apigatewayv2.Stage
    ) -> pulumi.Output[str] | None:
        domain, certificate = config.custom_domain_name, config.custom_domain_certificate_arn
        if domain is None or certificate is None:
            return None
        declared = aws.apigatewayv2.DomainName(
            f"{name}-domain",
            domain_name=domain,
            domain_name_configuration=aws.apigatewayv2.DomainNameDomainNameConfigurationArgs(
                certificate_arn=certificate, endpoint_type="REGIONAL", security_policy="TLS_1_2"
            ),
            tags=self.tags(domain),
            opts=self.child,
        )
        aws.apigatewayv2.ApiMapping(
            f"{name}-domain-mapping", api_id=api.id, domain_name=declared.id, stage=stage.name, opts=self.child
        )
        return declared.domain_name_configuration.apply(lambda made: made.target_domain_name or "")

    def _declare_stage(self, name: str, args: TaskApiArgs, api: aws.apigatewayv2.Api) -> aws.apigatewayv2.Stage:
        access_log = log_group(self, f"{name}-access-log", API_LOG_GROUP, key_arn=args.log_key_arn)
        return aws.apigatewayv2.Stage(
            f"{name}-stage",
            api_id=api.id,
            # The default stage has no prefix, so the listener's rules see the paths that the clients sent.
            name="$default",
            auto_deploy=True,
            access_log_settings=aws.apigatewayv2.StageAccessLogSettingsArgs(
                destination_arn=access_log.arn, format=json.dumps(ACCESS_LOG_FIELDS)
            ),
            default_route_settings=aws.apigatewayv2.StageDefaultRouteSettingsArgs(
                detailed_metrics_enabled=True,
                throttling_rate_limit=THROTTLE_RATE,
                throttling_burst_limit=THROTTLE_BURST,
            ),
            tags=self.tags(API_NAME),
            opts=self.child,
        )


def _cors(origins: Sequence[str], *, cookies: bool) -> aws.apigatewayv2.ApiCorsConfigurationArgs | None:
    """Lets pages of these origins call the API with a token in a header; with ``cookies`` also take and send the load balancer's."""
    if not origins:
        return None
    return aws.apigatewayv2.ApiCorsConfigurationArgs(
        allow_origins=list(origins),
        allow_methods=["DELETE", "GET", "POST", "PUT"],
        allow_headers=["authorization", "content-type"],
        max_age=CORS_MAX_AGE,
        allow_credentials=cookies or None,
    )
