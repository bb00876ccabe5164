"""The JSON Schema of a configuration, for editors."""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from ftpcluster.config.decode import keys, leaf_of
from ftpcluster.config.model import Config


def json_schema() -> dict[str, Any]:
    """What editors need to know; that things fit together only ``load`` can tell."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ftpcluster.toml",
        **_schema(Config),
    }


def _schema(kind: Any) -> dict[str, Any]:
    leaf = leaf_of(kind)
    if leaf is not None:
        return {**leaf.schema, "description": leaf.expected}
    if typing.get_origin(kind) is tuple:
        return {"type": "array", "items": _schema(typing.get_args(kind)[0]), "minItems": 1}
    if typing.get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": _schema(typing.get_args(kind)[1])}
    return _table(kind)


def _table(kind: type[msgspec.Struct]) -> dict[str, Any]:
    found = keys(kind)
    schema = {
        "type": "object",
        "properties": {name: _schema(inner) for name, (_, inner) in found.items()},
        "additionalProperties": False,
    }
    required = [name for name, (field, _) in found.items() if field.required]
    return {**schema, "required": required} if required else schema
