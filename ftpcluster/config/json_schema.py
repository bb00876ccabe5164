"""The JSON Schema of a configuration, for editors."""

from __future__ import annotations

import tomllib
import typing
from typing import Any

import msgspec

from ftpcluster.config.model import Config
from ftpcluster.config.setting import Key, is_array, keys, kind_of, show


def json_schema() -> dict[str, Any]:
    """The schema for editors. Only ``load`` can check that values fit together."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ftpcluster.toml",
        **schema_of(Config),
    }


def schema_of(annotation: Any) -> dict[str, Any]:
    """The schema of a value."""
    found = kind_of(annotation)
    if found is not None:
        return {**found.schema, "description": found.expected}
    if is_array(annotation):
        return {"type": "array", "items": schema_of(typing.get_args(annotation)[0]), "minItems": 1}
    if typing.get_origin(annotation) is dict:
        return {"type": "object", "additionalProperties": schema_of(typing.get_args(annotation)[1])}
    return _table(annotation)


def _table(table: type[msgspec.Struct]) -> dict[str, Any]:
    found = keys(table)
    schema = {
        "type": "object",
        "properties": {name: _described(key) for name, key in found.items()},
        "additionalProperties": False,
    }
    required = [name for name, key in found.items() if key.field.required]
    return {**schema, "required": required} if required else schema


def _described(key: Key) -> dict[str, Any]:
    """The schema of a key's value, with what the key is for."""
    schema = schema_of(key.annotation)
    if key.setting is None:
        return schema
    expected = schema.get("description")
    text = key.setting.help if expected is None else f"{key.setting.help}: {expected}"
    described = {**schema, "description": text}
    if key.default is not None and not key.setting.otherwise:
        described["default"] = tomllib.loads(f"value = {show(key.annotation, key.default)}")[
            "value"
        ]
    return described
