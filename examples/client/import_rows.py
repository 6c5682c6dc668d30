"""Send many rows, and send them again without harm: every row brings an id of its own.

Run it twice beside the greeter of `ask.py`: the second run adds nothing, and says the same.
"""

from tailrace import TailraceClient

rows = [
    {"to": "Greeter", "kind": "Greeting", "content": {"text": f"guest {n}"}, "message_id": f"guests-2026-{n}"}
    for n in range(1000)
]

with TailraceClient(".tailrace", user="eli") as client:
    sent = client.send_many(rows)
    print(f"{len(sent)} messages, the last one is {sent[-1].message_id}")
    print(client.wait(sent[-1], timeout=60).content)
