"""A relay whose resolver the test preloads: `python -m tests.programs.resolving <urls> <settings>`.

One URL, or a JSON list of them, and settings in JSON. Orders come line by line on stdin, and each
is answered by one line of JSON: `ask <n>` by what so many requests were answered, `status` by the
states of the targets.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from asgi_relay import HealthCheck, Relay
from tests.support.direct import Call


async def obey(relay: Relay, order: str) -> Any:
    word, _, count = order.partition(" ")
    if word == "status":
        return {url: target["state"] for url, target in relay.status()["targets"].items()}
    calls = [await Call()(relay) for _ in range(int(count))]
    return [f"{call.status} {call.body.decode()}" for call in calls]


async def main(url: str, settings: dict[str, Any]) -> None:
    several = json.loads(url) if url.startswith("[") else url
    if "health_check" in settings:
        settings["health_check"] = HealthCheck(**settings["health_check"])
    async with Relay(several, **settings) as relay:
        print("ready", flush=True)
        while order := (await asyncio.to_thread(sys.stdin.readline)).strip():
            print(json.dumps(await obey(relay, order)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
