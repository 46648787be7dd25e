"""The HTTP API in front (API Gateway v2): API, stage, authorizer, VPC link, integration, routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from zlib import crc32

from scripts.rehearsal.emulated import limits
from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, Tagging, capitals, compact, first, pascal, tag_map


def nowhere(aws: Aws, kind: str, name: str) -> str:
    """An ARN of API Gateway, which names no account."""
    return f"arn:aws:apigateway:{aws.region}::/{kind}/{name}"


class _V2(Kind):
    """What the types of API Gateway v2 share. Parameters of the API are the inputs' names with a capital."""

    service = "apigatewayv2"
    tagging = Tagging("ResourceArn", written=tag_map)
    names: frozenset[str] = frozenset()

    def check(self, inputs: Inputs) -> list[tuple[str, str]]:
        return [item for item in super().check(inputs) if item[0] not in self.names]

    def call(self, inputs: Inputs, only: Iterable[str] | None = None) -> dict[str, Any]:
        keys = self.names if only is None else self.names & set(only)
        return {key[:1].upper() + key[1:]: compact(inputs[key]) for key in sorted(keys) if inputs.get(key) is not None}


class Api(_V2):
    """aws.apigatewayv2.Api."""

    resource_type = "aws:apigatewayv2/api:Api"
    names = frozenset(
        {"name", "protocolType", "description", "disableExecuteApiEndpoint", "version", "routeSelectionExpression"}
    )
    special = frozenset({"corsConfiguration"})
    force_new = frozenset({"protocolType"})
    removal = ("delete_api", {"ApiId": "id"})

    def _cors(self, inputs: Inputs) -> dict[str, Any]:
        cors = inputs.get("corsConfiguration")
        return {"CorsConfiguration": pascal(cors)} if cors else {}

    def create(self, aws: Aws, inputs: Inputs) -> str:
        call = self.tagged({**self.call(inputs), **self._cors(inputs)}, inputs)
        return str(aws.client(self.service).create_api(**call)["ApiId"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        endpoint = aws.client(self.service).get_api(ApiId=id_)["ApiEndpoint"]
        return {"apiEndpoint": endpoint, "arn": nowhere(aws, "apis", id_), "executionArn": aws.arn("execute-api", id_)}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        call = self.call(new, changed - self.force_new)
        if "corsConfiguration" in changed and not self._cors(new):
            aws.client(self.service).delete_cors_configuration(ApiId=id_)
        elif "corsConfiguration" in changed:
            call |= self._cors(new)
        if call:
            aws.client(self.service).update_api(ApiId=id_, **call)
        self.retag(aws, nowhere(aws, "apis", id_), old, new)

    def look_for(self, aws: Aws, inputs: Inputs, taken: frozenset[str]) -> str | None:
        apis = aws.client(self.service).get_apis()["Items"]
        found = first(apis, lambda api: api["Name"] == inputs["name"] and api["ApiId"] not in taken)
        return str(found["ApiId"]) if found else None


class Stage(_V2):
    """aws.apigatewayv2.Stage; changes in place are judged only (limits.STAGE_UPDATE)."""

    resource_type = "aws:apigatewayv2/stage:Stage"
    names = frozenset({"autoDeploy", "description", "stageVariables"})
    special = frozenset({"apiId", "name", "accessLogSettings", "defaultRouteSettings", "routeSettings"})
    force_new = frozenset({"apiId", "name"})
    unique = ("apiId", "name")
    removal = ("delete_stage", {"ApiId": "apiId", "StageName": "id"})

    def _all(self, inputs: Inputs) -> dict[str, Any]:
        call = {"ApiId": inputs["apiId"], "StageName": inputs["name"], **self.call(inputs)}
        for key in ("accessLogSettings", "defaultRouteSettings"):
            if inputs.get(key):
                call[key[:1].upper() + key[1:]] = pascal(inputs[key])
        if inputs.get("routeSettings"):
            call["RouteSettings"] = {
                item["routeKey"]: pascal({key: value for key, value in item.items() if key != "routeKey"})
                for item in inputs["routeSettings"]
            }
        return call

    def create(self, aws: Aws, inputs: Inputs) -> str:
        return str(aws.client(self.service).create_stage(**self.tagged(self._all(inputs), inputs))["StageName"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        api = inputs["apiId"]
        aws.client(self.service).get_stage(ApiId=api, StageName=id_)
        host = f"{api}.execute-api.{aws.region}.amazonaws.com"
        path = "/" if id_ == "$default" else f"/{id_}"
        return {
            "arn": nowhere(aws, "apis", f"{api}/stages/{id_}"),
            "executionArn": aws.arn("execute-api", f"{api}/{id_}"),
            "invokeUrl": f"https://{host}{path}",
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        limits.judge(aws, limits.STAGE_UPDATE, self._all(new))

    def look_for(self, aws: Aws, inputs: Inputs, taken: frozenset[str]) -> str | None:
        stages = aws.client(self.service).get_stages(ApiId=inputs["apiId"])["Items"]
        found = first(stages, lambda stage: stage["StageName"] == inputs["name"])
        return str(found["StageName"]) if found else None


class Authorizer(_V2):
    """aws.apigatewayv2.Authorizer (JWT). It cannot be looked for (limits.AUTHORIZER_LIST): one of a killed run goes with its API."""

    resource_type = "aws:apigatewayv2/authorizer:Authorizer"
    names = frozenset({"apiId", "authorizerType", "name", "authorizerUri", "authorizerResultTtlInSeconds"})
    special = frozenset({"identitySources", "jwtConfiguration"})
    force_new = frozenset({"apiId"})
    removal = ("delete_authorizer", {"ApiId": "apiId", "AuthorizerId": "id"})

    def _all(self, inputs: Inputs) -> dict[str, Any]:
        call = self.call(inputs)
        call["IdentitySource"] = list(inputs.get("identitySources") or ["$request.header.Authorization"])
        if jwt := inputs.get("jwtConfiguration"):
            call["JwtConfiguration"] = pascal({"audience": jwt.get("audiences"), "issuer": jwt.get("issuer")})
        return call

    def create(self, aws: Aws, inputs: Inputs) -> str:
        return str(aws.client(self.service).create_authorizer(**self._all(inputs))["AuthorizerId"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client(self.service).get_authorizer(ApiId=inputs["apiId"], AuthorizerId=id_)
        return {}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        aws.client(self.service).update_authorizer(AuthorizerId=id_, **self._all(new))


class VpcLink(_V2):
    """aws.apigatewayv2.VpcLink."""

    resource_type = "aws:apigatewayv2/vpcLink:VpcLink"
    names = frozenset({"name", "subnetIds", "securityGroupIds"})
    force_new = frozenset({"subnetIds", "securityGroupIds"})
    removal = ("delete_vpc_link", {"VpcLinkId": "id"})

    def create(self, aws: Aws, inputs: Inputs) -> str:
        return str(aws.client(self.service).create_vpc_link(**self.tagged(self.call(inputs), inputs))["VpcLinkId"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client(self.service).get_vpc_link(VpcLinkId=id_)
        return {"arn": nowhere(aws, "vpclinks", id_)}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        if "name" in changed:
            aws.client(self.service).update_vpc_link(VpcLinkId=id_, Name=new["name"])
        self.retag(aws, nowhere(aws, "vpclinks", id_), old, new)

    def look_for(self, aws: Aws, inputs: Inputs, taken: frozenset[str]) -> str | None:
        items = aws.client(self.service).get_vpc_links()["Items"]
        found = first(items, lambda item: item["Name"] == inputs["name"] and item["VpcLinkId"] not in taken)
        return str(found["VpcLinkId"]) if found else None


class Integration(_V2):
    """aws.apigatewayv2.Integration."""

    resource_type = "aws:apigatewayv2/integration:Integration"
    names = frozenset(
        capitals(
            "apiId connectionId connectionType credentialsArn description integrationMethod integrationType integrationUri "
            "payloadFormatVersion requestParameters"
        )
    )
    special = frozenset({"timeoutMilliseconds", "tlsConfig"})
    force_new = frozenset({"apiId", "integrationType"})
    removal = ("delete_integration", {"ApiId": "apiId", "IntegrationId": "id"})

    def _all(self, inputs: Inputs) -> dict[str, Any]:
        call = self.call(inputs)
        if inputs.get("timeoutMilliseconds"):
            call["TimeoutInMillis"] = inputs["timeoutMilliseconds"]
        if inputs.get("tlsConfig"):
            call["TlsConfig"] = pascal(inputs["tlsConfig"])
        return call

    def create(self, aws: Aws, inputs: Inputs) -> str:
        return str(aws.client(self.service).create_integration(**self._all(inputs))["IntegrationId"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client(self.service).get_integration(ApiId=inputs["apiId"], IntegrationId=id_)
        return {}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        aws.client(self.service).update_integration(IntegrationId=id_, **self._all(new))

    def look_for(self, aws: Aws, inputs: Inputs, taken: frozenset[str]) -> str | None:
        items = aws.client(self.service).get_integrations(ApiId=inputs["apiId"])["Items"]

        def same(item: Any) -> bool:
            return item["IntegrationId"] not in taken and item.get("IntegrationUri") == inputs.get("integrationUri")

        found = first(items, same)
        return str(found["IntegrationId"]) if found else None


class Route(_V2):
    """aws.apigatewayv2.Route."""

    resource_type = "aws:apigatewayv2/route:Route"
    names = frozenset(
        {"apiId", "routeKey", "target", "authorizationType", "authorizerId", "authorizationScopes", "operationName"}
    )
    force_new = frozenset({"apiId"})
    unique = ("apiId", "routeKey")
    removal = ("delete_route", {"ApiId": "apiId", "RouteId": "id"})

    def create(self, aws: Aws, inputs: Inputs) -> str:
        return str(aws.client(self.service).create_route(**self.call(inputs))["RouteId"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client(self.service).get_route(ApiId=inputs["apiId"], RouteId=id_)
        return {}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        aws.client(self.service).update_route(RouteId=id_, **self.call(new))

    def look_for(self, aws: Aws, inputs: Inputs, taken: frozenset[str]) -> str | None:
        items = aws.client(self.service).get_routes(ApiId=inputs["apiId"])["Items"]
        found = first(items, lambda item: item["RouteKey"] == inputs["routeKey"])
        return str(found["RouteId"]) if found else None


class DomainName(_V2):
    """aws.apigatewayv2.DomainName; the API has a list of configurations, the provider one."""

    resource_type = "aws:apigatewayv2/domainName:DomainName"
    names = frozenset({"domainName"})
    special = frozenset({"domainNameConfiguration"})
    force_new = frozenset({"domainName"})
    unique = ("domainName",)
    removal = ("delete_domain_name", {"DomainName": "id"})

    def _all(self, inputs: Inputs) -> dict[str, Any]:
        return {**self.call(inputs), "DomainNameConfigurations": [pascal(inputs["domainNameConfiguration"])]}

    def create(self, aws: Aws, inputs: Inputs) -> str:
        return str(aws.client(self.service).create_domain_name(**self.tagged(self._all(inputs), inputs))["DomainName"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client(self.service).get_domain_name(DomainName=id_)
        # Its own name, which the team's DNS leads to (API Gateway, 'Setting up a Regional custom domain name').
        target = f"d-{crc32(id_.encode()):08x}.execute-api.{aws.region}.amazonaws.com"
        return {
            "arn": nowhere(aws, "domainnames", id_),
            "domainNameConfiguration": {**inputs["domainNameConfiguration"], "targetDomainName": target},
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        if "domainNameConfiguration" in changed:
            limits.judge(aws, limits.DOMAIN_UPDATE, self._all(new))
        self.retag(aws, nowhere(aws, "domainnames", id_), old, new)

    def look_for(self, aws: Aws, inputs: Inputs, taken: frozenset[str]) -> str | None:
        return str(aws.client(self.service).get_domain_name(DomainName=inputs["domainName"])["DomainName"])


class ApiMapping(_V2):
    """aws.apigatewayv2.ApiMapping."""

    resource_type = "aws:apigatewayv2/apiMapping:ApiMapping"
    names = frozenset({"apiId", "domainName", "stage", "apiMappingKey"})
    force_new = frozenset({"domainName"})
    removal = ("delete_api_mapping", {"DomainName": "domainName", "ApiMappingId": "id"})

    def create(self, aws: Aws, inputs: Inputs) -> str:
        return str(aws.client(self.service).create_api_mapping(**self.call(inputs))["ApiMappingId"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client(self.service).get_api_mapping(DomainName=inputs["domainName"], ApiMappingId=id_)
        return {}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        limits.judge(aws, limits.MAPPING_UPDATE, {"ApiMappingId": id_, **self.call(new)})

    def look_for(self, aws: Aws, inputs: Inputs, taken: frozenset[str]) -> str | None:
        items = aws.client(self.service).get_api_mappings(DomainName=inputs["domainName"])["Items"]
        found = first(items, lambda item: item["ApiId"] == inputs["apiId"])
        return str(found["ApiMappingId"]) if found else None


KINDS = (Api(), Stage(), Authorizer(), VpcLink(), Integration(), Route(), DomainName(), ApiMapping())
