"""What an answer says, in a form that can be compared: of a stream, what its pieces add up to.

Left out is what differs between two runs of the same request: ids, times of day, and how much of a prompt was cached.
"""
import json

import chaos_client
from chaos_client import Malformed

# Ids are those of the server; what models write stands in strings.
_LEFT_OUT = {"id", "call_id", "item_id", "created", "created_at", "completed_at", "cached_tokens", "request_id"}


class Failed(Exception):
    """An error in place of an answer, or at the end of a stream."""


def scrubbed(value):
    if isinstance(value, dict):
        return {name: scrubbed(part) for name, part in value.items() if name not in _LEFT_OUT}
    if isinstance(value, list):
        return [scrubbed(part) for part in value]
    return value


def answer(reply):
    """Of a whole reply, or of a stream that ended. Server errors, and errors within streams, are raised."""
    if reply.status >= 500 or reply.status == 429:
        raise Failed(f"status {reply.status}: {reply.body[:300].decode(errors='replace')}")
    if not reply.is_stream:
        return {"status": reply.status, "document": scrubbed(chaos_client.parse(reply.body))}
    parts = partial(reply)
    if parts["terminators"] != 1:
        raise Malformed(f"{parts['terminators']} terminators in a stream")
    for index, choice in parts.get("choices", {}).items():
        if len(choice["finish"]) != 1:
            raise Malformed(f"choice {index} has {len(choice['finish'])} finish reasons")
    return parts


def partial(reply):
    """What a stream said as far as it came."""
    events = [(name, text) for _, name, text in reply.events]
    if any(name for name, _ in events):
        return _responses(events)
    return _chunks(events)


def _chunks(events):
    result = {"status": 200, "terminators": 0, "choices": {}, "usage": None}
    ids = set()
    for _, text in events:
        if result["terminators"]:
            raise Malformed(f"an event after [DONE]: {text[:200]}")
        if text == "[DONE]":
            result["terminators"] += 1
            continue
        chunk = chaos_client.parse(text)
        if "error" in chunk:
            raise Failed(f"in a stream: {text[:300]}")
        ids.add((chunk["id"], chunk["created"], chunk["model"], chunk["object"]))
        if chunk.get("usage"):
            result["usage"] = scrubbed(chunk["usage"])
        for choice in chunk["choices"]:
            _add_choice(result["choices"].setdefault(choice["index"], _empty_choice()), choice)
    if len(ids) > 1:
        raise Malformed(f"a stream of several: {ids}")
    return result


def _empty_choice():
    return {"text": "", "roles": [], "calls": [], "finish": [], "logprobs": {}, "token_ids": [], "other": []}


def _add_choice(result, choice):
    for name, value in choice.items():
        if value is None or name == "index":
            continue
        if name == "text":
            result["text"] += value
        elif name == "delta":
            _add_delta(result, value)
        elif name == "logprobs":
            for part, values in value.items():
                result["logprobs"].setdefault(part, []).extend(values or [])
        elif name == "token_ids":
            result["token_ids"] += value
        elif name == "finish_reason":
            result["finish"].append([value, choice.get("stop_reason")])
        elif name != "stop_reason":
            result["other"].append([name, value])


def _add_delta(result, delta):
    for name, value in delta.items():
        if value is None:
            continue
        if name == "content":
            result["text"] += value
        elif name == "role":
            result["roles"].append(value)
        elif name == "tool_calls":
            for call in value:
                if call["index"] == len(result["calls"]):
                    result["calls"].append({"name": call["function"]["name"], "arguments": ""})
                elif call["index"] != len(result["calls"]) - 1 or "id" in call:
                    raise Malformed(f"a call out of turn: {call}")
                result["calls"][-1]["arguments"] += call["function"].get("arguments", "")
        else:
            result["other"].append([name, value])


def _responses(events):
    result = {"status": 200, "terminators": 0, "texts": {}, "final": None}
    for number, (name, text) in enumerate(events):
        event = chaos_client.parse(text)
        if "error" in event and "type" not in event:
            raise Failed(f"in a stream: {text[:300]}")
        if result["terminators"]:
            raise Malformed(f"an event after the last: {text[:200]}")
        if event["type"] != name or event["sequence_number"] != number:
            raise Malformed(f"event {number} is {name} {event['type']} {event['sequence_number']}")
        if name in ("error", "response.failed"):
            raise Failed(f"in a stream: {text[:300]}")
        if name in ("response.completed", "response.incomplete"):
            result["terminators"] += 1
            result["final"] = scrubbed(event["response"])
        elif name.endswith(".delta"):
            key = str(event["output_index"])
            result["texts"][key] = result["texts"].get(key, "") + event["delta"]
    if result["final"]:
        for index, text in result["texts"].items():
            item = result["final"]["output"][int(index)]
            whole = item["arguments"] if "arguments" in item else item["content"][0].get("text", "")
            if text != whole:
                raise Malformed(f"the pieces {text[:200]!r} are not the whole {whole[:200]!r}")
    return result


def is_beginning(part, whole):
    """Whether what came of a stream is how the whole begins."""
    for name in ("choices", "texts"):
        for index, piece in part.get(name, {}).items():
            full = whole.get(name, {}).get(index)
            if full is None:
                return False
            if isinstance(piece, str):
                if not full.startswith(piece):
                    return False
            elif not _choice_begins(piece, full):
                return False
    return True


def _choice_begins(part, whole):
    calls = len(part["calls"])
    return (
        whole["text"].startswith(part["text"])
        and whole["token_ids"][: len(part["token_ids"])] == part["token_ids"]
        and all(whole["logprobs"].get(k, [])[: len(v)] == v for k, v in part["logprobs"].items())
        and part["finish"] in ([], whole["finish"])
        and calls <= len(whole["calls"])
        and all(
            ours["name"] == theirs["name"] and theirs["arguments"].startswith(ours["arguments"])
            for ours, theirs in zip(part["calls"], whole["calls"])))


def texts(document):
    """Every text that a whole answer gives."""
    found = []
    for choice in document.get("document", document).get("choices", []):
        if "text" in choice:
            found.append(choice["text"])
        elif choice.get("message", {}).get("content"):
            found.append(choice["message"]["content"])
    return found


def difference(expected, got, path=""):
    """Where two answers differ first, for people."""
    if type(expected) is not type(got):
        return f"{path}: {json.dumps(got)[:300]} in place of {json.dumps(expected)[:300]}"
    if isinstance(expected, dict):
        for name in sorted(set(expected) | set(got), key=str):
            if name not in expected or name not in got:
                return f"{path}.{name}: {'missing' if name in expected else 'too much'}"
            if found := difference(expected[name], got[name], f"{path}.{name}"):
                return found
        return None
    if isinstance(expected, list):
        for index, (left, right) in enumerate(zip(expected, got)):
            if found := difference(left, right, f"{path}[{index}]"):
                return found
        if len(expected) == len(got):
            return None
        rest = json.dumps((expected if len(expected) > len(got) else got)[min(len(expected), len(got)) :])
        return f"{path}: {len(got)} items in place of {len(expected)}: {rest[:300]}"
    if expected == got:
        return None
    if isinstance(expected, str):
        place = next((i for i, (a, b) in enumerate(zip(expected, got)) if a != b), min(len(expected), len(got)))
        start = max(0, place - 30)
        return (
            f"{path}: at character {place} {got[start:place + 60]!r} ({len(got)} in all) in place of "
            f"{expected[start:place + 60]!r} ({len(expected)})")
    return f"{path}: {got!r} in place of {expected!r}"
