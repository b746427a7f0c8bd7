"""The AsyncAPI document: what consumers of callbacks and of usage find on their topics.

The topics of the service's own queue are internal and not in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.contracts.codec import CONTENT_TYPE, open_envelope, open_usage, seal
from service.contracts.enums import ProcessingEvent
from service.contracts.events import SCHEMA_VERSION, ComparisonResultEnvelope, UsageEnvelope
from service.contracts.published import RESULT_EVENT, USAGE_EVENT, describe_event
from service.contracts.topics import MAX_TOPIC_CHARACTERS, SOURCE_SERVICE, TOPIC_OF_EVENT

LICENSE: Final = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}

_RESULT: Final = ProcessingEvent.LLM_COMPARISON_RESULT
_USAGE: Final = ProcessingEvent.LLM_USAGE
_SCHEMA: Final = "#/components/schemas/{model}"
_KAFKA_BINDINGS: Final = "0.5.0"
_DESCRIPTION: Final = """\
Callbacks of LLM comparisons. Every request that was answered 202 ends in exactly one event on the topic
that it named as `callback_topic`, with an answer or with an error. Where the service has a usage topic, every
request that a provider was asked for has one event there, too, which tells what it has used.

An event is delivered at least once. Its bytes and its `event_id` are the same in every copy, so a consumer
that remembers the `event_id`s it has seen takes each event once. There is no order between the events of
different requests.

Within `schema_version` 1 fields are added, never removed or renamed, and `provider` and `error_code` may get
new values: read past what you do not know."""
_HEADERS: Final[Mapping[str, tuple[str, dict[str, str]]]] = {
    "event_id": ("The same for every copy of an event; that of the value", {"format": "uuid"}),
    "event_type": ("What kind of event the value is", {}),
    "request_id": ("The `queue_id` of the 202", {}),
    "content-type": ("How the value is written", {"const": CONTENT_TYPE}),
    "run_id": ("The request's `X-Run-ID`: only on simulated traffic, which others should leave out", {}),
    "traceparent": ("W3C trace context, where the request had one", {}),
}
_NOT_ALWAYS_THERE: Final = {"run_id", "traceparent"}


def describe_events(
    version: str, callbacks: Mapping[str, bytes], usage: Mapping[str, bytes]
) -> dict[str, Any]:
    """The document; the examples are values of events by a line that says what each shows."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": SOURCE_SERVICE,
            "version": version,
            "description": _DESCRIPTION,
            "license": LICENSE,
            "tags": [{"name": "callbacks"}, {"name": "usage"}],
            "x-schema-version": SCHEMA_VERSION,
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": _describe_servers(),
        "channels": {"callbacks": _describe_callbacks(), "usage": _describe_usage()},
        "operations": {
            "send_comparison_result": _describe_sending(
                "callbacks", "comparison_result", "Answers a comparison, once for each request"
            ),
            "send_usage": _describe_sending(
                "usage", "usage", "Tells what a request has used, once for each that a provider was asked for"
            ),
        },
        "components": _describe_components(callbacks, usage),
    }


def _describe_sending(channel: str, message: str, summary: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _describe_servers() -> dict[str, Any]:
    host = {
        "host": "{bootstrap_servers}",
        "variables": {
            "bootstrap_servers": {
                "default": "localhost:9092",
                "description": "The service's KAFKA_BOOTSTRAP_SERVERS; several with commas",
            }
        },
    }
    logins = [{"$ref": f"#/components/securitySchemes/{name}"} for name in _describe_logins()]
    return {
        "plain": {**host, "protocol": "kafka", "description": "Kafka without TLS"},
        "secure": {
            **host,
            "protocol": "kafka-secure",
            "description": "Kafka with TLS, and a login where the cluster asks for one",
            "security": logins,
        },
    }


def _describe_logins() -> dict[str, Any]:
    return {
        "plain": {"type": "plain", "description": "SASL PLAIN"},
        "scram256": {"type": "scramSha256", "description": "SASL SCRAM-SHA-256"},
        "scram512": {"type": "scramSha512", "description": "SASL SCRAM-SHA-512"},
    }


def _describe_callbacks() -> dict[str, Any]:
    return {
        "address": "{callback_topic}",
        "title": "A callback topic",
        "description": "The topic must exist; the service creates none.",
        "parameters": {
            "callback_topic": {
                "description": "The request's `callback_topic`: up to "
                f"{MAX_TOPIC_CHARACTERS} of A-Z a-z 0-9 . _ - and no `_` in front",
                "examples": [TOPIC_OF_EVENT[_RESULT]],
            }
        },
        "messages": {"comparison_result": {"$ref": "#/components/messages/comparison_result"}},
    }


def _describe_usage() -> dict[str, Any]:
    return {
        "address": "{usage_topic}",
        "title": "The usage topic",
        "description": "There are usage events only where the service has such a topic, and it exists.",
        "parameters": {
            "usage_topic": {
                "description": "The service's USAGE_TOPIC",
                "examples": [TOPIC_OF_EVENT[_USAGE]],
            }
        },
        "messages": {"usage": {"$ref": "#/components/messages/usage"}},
    }


def _describe_components(callbacks: Mapping[str, bytes], usage: Mapping[str, bytes]) -> dict[str, Any]:
    result_payload, result_schemas = describe_event(RESULT_EVENT, _SCHEMA)
    usage_payload, usage_schemas = describe_event(USAGE_EVENT, _SCHEMA)
    return {
        "messages": {
            "comparison_result": _describe_message(
                _RESULT,
                "ComparisonResultEvent",
                "The answer to one comparison",
                "A winner with justification and confidence, or an error; never both",
                [_describe_example(line, open_envelope(value)) for line, value in callbacks.items()],
            ),
            "usage": _describe_message(
                _USAGE,
                "UsageEvent",
                "What one request has used",
                "Calls, tokens and cost by caller, provider and model; nothing of the texts",
                [_describe_example(line, open_usage(value)) for line, value in usage.items()],
            ),
        },
        "schemas": {
            "ComparisonResultEvent": result_payload,
            "UsageEvent": usage_payload,
            **result_schemas,
            **usage_schemas,
        },
        "securitySchemes": _describe_logins(),
    }


def _describe_message(
    event: ProcessingEvent, schema: str, title: str, summary: str, examples: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "name": event.value,
        "title": title,
        "summary": summary,
        "contentType": CONTENT_TYPE,
        "correlationId": {
            "description": "That of the request, and the record's key",
            "location": "$message.payload#/correlation_id",
        },
        "headers": _describe_headers(event),
        "payload": {"$ref": _SCHEMA.format(model=schema)},
        "bindings": {"kafka": {"key": _describe_key(), "bindingVersion": _KAFKA_BINDINGS}},
        "examples": list(examples),
    }


def _describe_key() -> dict[str, Any]:
    return {
        "type": "string",
        "format": "uuid",
        "description": "The `correlation_id` as UTF-8: what belongs together stays on one partition",
    }


def _describe_headers(event: ProcessingEvent) -> dict[str, Any]:
    properties: dict[str, dict[str, Any]] = {
        name: {"type": "string", "description": text, **more} for name, (text, more) in _HEADERS.items()
    }
    properties["event_type"]["const"] = event.value
    return {
        "type": "object",
        "description": "Each is UTF-8 text",
        "properties": properties,
        "required": [name for name in _HEADERS if name not in _NOT_ALWAYS_THERE],
    }


def _describe_example(line: str, envelope: ComparisonResultEnvelope | UsageEnvelope) -> dict[str, Any]:
    headers: Sequence[tuple[str, bytes]] = seal(envelope).headers
    return {
        "name": line.replace(" ", "_"),
        "summary": line[0].upper() + line[1:],
        "headers": {name: text.decode() for name, text in headers},
        "payload": envelope.model_dump(mode="json"),
    }
