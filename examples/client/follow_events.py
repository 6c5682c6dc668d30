"""Follow events of one kind from a place that outlives this process: nothing is missed, nothing comes twice.

The place is a file here; in a service it belongs into the same transaction as whatever an event leads to.
"""

import json
from pathlib import Path

from tailrace import Payload, TailraceClient, read


class StockCounted(Payload):
    article: str
    pieces: int


PLACE = Path("place.json")


def follow(client: TailraceClient, count: int) -> None:
    after = tuple(json.loads(PLACE.read_text())) if PLACE.exists() else (-1, -1)
    with client.subscribe(StockCounted, after=after) as events:
        for _, event in zip(range(count), events, strict=False):
            counted = read(event, StockCounted)
            print(counted.article, counted.pieces)
            PLACE.write_text(json.dumps(event.position))


with TailraceClient(".tailrace", user="eli") as client:
    for n in range(4):
        client.publish(StockCounted(article="tea", pieces=250 + n))

    follow(client, 2)  # this could be yesterday's process
    follow(client, 2)  # and this today's
