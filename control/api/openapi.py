"""The OpenAPI 3.1 document, made from the table of routes and the models that the code itself answers with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from control.api.problems import PROBLEM
from control.api.table import Route, Schema
from control.contract.answers import CallEvent, ProblemDetails

_REFERENCE = "#/components/schemas/{model}"
_Mode = Literal["validation", "serialization"]
_REASONS = {
    400: "A parameter cannot be used; the problem names it and what is allowed.",
    401: "No token, or one that is not known.",
    403: "The token lacks the scope.",
    404: "There is nothing under this id.",
    409: "What is there does not allow this; the problem says why.",
    412: "The state is not the one that If-Match names: get it anew.",
    413: "The body is too large.",
    422: "The body cannot be used; the problem says what and where.",
    426: "This path speaks WebSocket alone.",
    429: "Too many unknown tokens came from this source: wait as long as Retry-After says.",
    500: "A fault of control; the log has it under the request id.",
    502: "The connection to the sidecar broke before it was done.",
    503: "Not just now: try again later.",
    504: "The sidecar did not answer in time.",
}
_ABOUT = (
    "Calls that Trunkside relayed and measured, the reports that agents sent of them, and the way of these reports to the evaluator. "
    "Errors are problem+json (RFC 9457) whose detail says what to do. X-Request-Id is taken or made, and answered. "
    "Times are RFC 3339, durations milliseconds."
)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of a table of routes, as values that JSON can hold."""
    table = list(routes)
    names, schemas = _schemas(table)
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path.replace(r":\d+", ""), {})[route.method.lower()] = _operation(route, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trunkside control",
            "version": version_of_product(),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of this control. Needed once any token is configured.",
                },
            },
        },
    }


def version_of_product() -> str:
    """The installed version, 0 where it is not installed."""
    try:
        return version("trunkside")
    except PackageNotFoundError:
        return "0"


def _schemas(table: list[Route]) -> tuple[dict[tuple[type[BaseModel], _Mode], dict[str, Any]], dict[str, Any]]:
    """References to all models of the table, and the definitions they lead to."""
    asked: list[tuple[type[BaseModel], _Mode]] = [(ProblemDetails, "serialization"), (CallEvent, "serialization")]
    for route in table:
        asked += [(schema, "validation") for schema in route.body.values() if isinstance(schema, type)]
        asked += [(schema, "serialization") for schema in route.answer.values() if isinstance(schema, type)]
    references, definitions = models_json_schema(list(dict.fromkeys(asked)), ref_template=_REFERENCE)
    return {(model, mode): references[model, mode] for model, mode in asked}, definitions["$defs"]


def _operation(route: Route, names: Mapping[tuple[type[BaseModel], _Mode], Mapping[str, Any]]) -> dict[str, Any]:
    def content(media: Mapping[str, Schema], mode: _Mode) -> dict[str, Any]:
        return {name: {"schema": dict(names[schema, mode]) if isinstance(schema, type) else dict(schema)} for name, schema in media.items()}

    headers = {"X-Request-Id": {"description": "The name of this request in the log.", "schema": {"type": "string"}}}
    tags = (
        {"ETag": {"description": "Names this state: send it back as If-None-Match.", "schema": {"type": "string"}}}
        if route.conditional
        else {}
    )
    answers: dict[str, Any] = {
        "200": {"description": route.summary, "headers": {**headers, **tags}, "content": content(route.answer, "serialization")}
    }
    if route.conditional:
        answers["304"] = {"description": "The client has this state already.", "headers": {**headers, **tags}}
    for status in route.statuses:
        problem = {PROBLEM: {"schema": dict(names[ProblemDetails, "serialization"])}}
        answers[str(status)] = {"description": _REASONS[status], "headers": headers, "content": problem}
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": answers,
        "security": _security(route),
    }
    if route.description:
        operation["description"] = route.description
    if route.body:
        operation["requestBody"] = {"required": True, "content": content(route.body, "validation")}
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.access == "open":
        return []
    return [{"bearer": [scope]} for scope in (("sync",) if route.access == "reporter" else route.scopes)]


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{id" in route.path:
        found.append({"name": "id", "in": "path", "required": True, "schema": dict(route.path_schema)})
    if route.query is not None:
        schema = route.query.model_json_schema(by_alias=True)
        for name, each in schema.get("properties", {}).items():
            found.append(_parameter(name, each, "query"))
    conditional = {"If-None-Match": "The ETag of the state that the client has."} if route.conditional else {}
    for name, description in {**route.headers, **conditional}.items():
        found.append({"name": name, "in": "header", "description": description, "schema": {"type": "string"}})
    return found


def _parameter(name: str, schema: Mapping[str, Any], place: str) -> dict[str, Any]:
    kinds = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    plain = {**schema, **(kinds[0] if len(kinds) == 1 else {})}
    described = {"description": plain.pop("description")} if "description" in plain else {}
    for noise in ("anyOf", "title"):
        plain.pop(noise, None)
    if plain.get("default", 0) is None:
        plain.pop("default")
    return {"name": name, "in": place, **described, "schema": plain}
