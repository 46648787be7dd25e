"""The HTTP API in front (API Gateway v2): API, stage, authorizer, VPC link, integration, routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from zlib import crc32

from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, Tagging, capitals, pascal, tag_map
from scripts.rehearsal.emulated.limits import Limit, judge


def nowhere(aws: Aws, kind: str, name: str) -> str:
    """An ARN of API Gateway, which names no account."""
    return f"arn:aws:apigateway:{aws.region}::/{kind}/{name}"


class _V2(Kind):
    """What the types of API Gateway v2 share: operations are named after the thing, parameters after the inputs."""

    service = "apigatewayv2"
    tagging = Tagging("ResourceArn", written=tag_map)
    #: As in the operations' names, and the parameter that has its id.
    noun: ClassVar[str]
    key: ClassVar[str]
    #: The input that says what it is in.
    within: ClassVar[str | None] = None

    def _do(self, aws: Aws, operation: str, **call: Any) -> Any:
        return getattr(aws.client(self.service), operation)(**call)

    def _where(self, inputs: Inputs) -> dict[str, Any]:
        return {} if self.within is None else {self.within[:1].upper() + self.within[1:]: inputs[self.within]}

    def outputs(self, aws: Aws, id_: str, found: Any, inputs: Inputs) -> dict[str, Any]:
        """What the API answered, beyond the inputs."""
        return {}

    def create(self, aws: Aws, inputs: Inputs) -> str:
        return str(self._do(aws, f"create_{self.noun}", **self.tagged(self.call(inputs), inputs))[self.key])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = self._do(aws, f"get_{self.noun}", **self._where(inputs), **{self.key: id_})
        return self.outputs(aws, id_, found, inputs)

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        self._do(aws, f"update_{self.noun}", **self.call(new), **{self.key: id_})

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        self._do(aws, f"delete_{self.noun}", **self._where(state), **{self.key: id_})


class Api(_V2):
    """aws.apigatewayv2.Api."""

    resource_type = "aws:apigatewayv2/api:Api"
    params: ClassVar[Mapping[str, Any]] = capitals("name protocolType description")
    special = frozenset({"corsConfiguration"})
    force_new = frozenset({"protocolType"})
    noun, key = "api", "ApiId"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        cors = inputs.get("corsConfiguration")
        return self.parameters(inputs) | ({"CorsConfiguration": pascal(cors)} if cors else {})

    def outputs(self, aws: Aws, id_: str, found: Any, inputs: Inputs) -> dict[str, Any]:
        arns = {"arn": nowhere(aws, "apis", id_), "executionArn": aws.arn("execute-api", id_)}
        return {"apiEndpoint": found["ApiEndpoint"], **arns}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        if "corsConfiguration" in changed and not new.get("corsConfiguration"):
            aws.client(self.service).delete_cors_configuration(ApiId=id_)
        call = self.call({key: new.get(key) for key in changed})
        if call:
            aws.client(self.service).update_api(ApiId=id_, **call)


class Stage(_V2):
    """aws.apigatewayv2.Stage; changes in place are judged only (Limit.STAGE_UPDATE)."""

    resource_type = "aws:apigatewayv2/stage:Stage"
    params: ClassVar[Mapping[str, Any]] = capitals("apiId autoDeploy description") | {"name": "StageName"}
    special = frozenset({"accessLogSettings", "defaultRouteSettings"})
    force_new = frozenset({"apiId", "name"})
    unique = ("apiId", "name")
    noun, key, within = "stage", "StageName", "apiId"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        settings = {key: inputs[key] for key in self.special if inputs.get(key)}
        return {**self.parameters(inputs), **pascal(settings)}

    def outputs(self, aws: Aws, id_: str, found: Any, inputs: Inputs) -> dict[str, Any]:
        api = inputs["apiId"]
        path = "/" if id_ == "$default" else f"/{id_}"
        return {
            "arn": nowhere(aws, "apis", f"{api}/stages/{id_}"),
            "executionArn": aws.arn("execute-api", f"{api}/{id_}"),
            "invokeUrl": f"https://{api}.execute-api.{aws.region}.amazonaws.com{path}",
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        judge(aws, Limit.STAGE_UPDATE, self.call(new))

    def retag(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> None:
        """moto has no tagging of a stage."""


class Authorizer(_V2):
    """aws.apigatewayv2.Authorizer (JWT)."""

    resource_type = "aws:apigatewayv2/authorizer:Authorizer"
    params: ClassVar[Mapping[str, Any]] = capitals("apiId authorizerType name")
    special = frozenset({"identitySources", "jwtConfiguration"})
    force_new = frozenset({"apiId"})
    noun, key, within = "authorizer", "AuthorizerId", "apiId"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        call = {**self.parameters(inputs), "IdentitySource": list(inputs["identitySources"])}
        if jwt := inputs.get("jwtConfiguration"):
            call["JwtConfiguration"] = pascal({"audience": jwt.get("audiences"), "issuer": jwt.get("issuer")})
        return call


class VpcLink(_V2):
    """aws.apigatewayv2.VpcLink."""

    resource_type = "aws:apigatewayv2/vpcLink:VpcLink"
    params: ClassVar[Mapping[str, Any]] = capitals("name subnetIds securityGroupIds")
    force_new = frozenset({"subnetIds", "securityGroupIds"})
    noun, key = "vpc_link", "VpcLinkId"

    def outputs(self, aws: Aws, id_: str, found: Any, inputs: Inputs) -> dict[str, Any]:
        return {"arn": nowhere(aws, "vpclinks", id_)}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        aws.client(self.service).update_vpc_link(VpcLinkId=id_, Name=new["name"])


class Integration(_V2):
    """aws.apigatewayv2.Integration."""

    resource_type = "aws:apigatewayv2/integration:Integration"
    params: ClassVar[Mapping[str, Any]] = capitals(
        "apiId connectionId connectionType description integrationMethod integrationType integrationUri payloadFormatVersion "
        "requestParameters"
    ) | {"timeoutMilliseconds": "TimeoutInMillis"}
    special = frozenset({"tlsConfig"})
    force_new = frozenset({"apiId", "integrationType"})
    noun, key, within = "integration", "IntegrationId", "apiId"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        tls = inputs.get("tlsConfig")
        return self.parameters(inputs) | ({"TlsConfig": pascal(tls)} if tls else {})


class Route(_V2):
    """aws.apigatewayv2.Route."""

    resource_type = "aws:apigatewayv2/route:Route"
    params: ClassVar[Mapping[str, Any]] = capitals("apiId routeKey target authorizationType authorizerId")
    force_new = frozenset({"apiId"})
    unique = ("apiId", "routeKey")
    noun, key, within = "route", "RouteId", "apiId"


class DomainName(_V2):
    """aws.apigatewayv2.DomainName; the API has a list of configurations, the provider one."""

    resource_type = "aws:apigatewayv2/domainName:DomainName"
    params: ClassVar[Mapping[str, Any]] = capitals("domainName")
    special = frozenset({"domainNameConfiguration"})
    force_new = frozenset({"domainName"})
    unique = ("domainName",)
    noun, key = "domain_name", "DomainName"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        return {**self.parameters(inputs), "DomainNameConfigurations": [pascal(inputs["domainNameConfiguration"])]}

    def outputs(self, aws: Aws, id_: str, found: Any, inputs: Inputs) -> dict[str, Any]:
        # Its own name, which the team's DNS leads to (API Gateway, 'Setting up a Regional custom domain name').
        target = f"d-{crc32(id_.encode()):08x}.execute-api.{aws.region}.amazonaws.com"
        return {
            "arn": nowhere(aws, "domainnames", id_),
            "domainNameConfiguration": {**inputs["domainNameConfiguration"], "targetDomainName": target},
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        judge(aws, Limit.DOMAIN_UPDATE, self.call(new))


class ApiMapping(_V2):
    """aws.apigatewayv2.ApiMapping."""

    resource_type = "aws:apigatewayv2/apiMapping:ApiMapping"
    params: ClassVar[Mapping[str, Any]] = capitals("apiId domainName stage")
    force_new = frozenset({"domainName"})
    noun, key, within = "api_mapping", "ApiMappingId", "domainName"

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        judge(aws, Limit.MAPPING_UPDATE, {"ApiMappingId": id_, **self.call(new)})


KINDS = (Api(), Stage(), Authorizer(), VpcLink(), Integration(), Route(), DomainName(), ApiMapping())
