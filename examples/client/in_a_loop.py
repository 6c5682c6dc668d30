"""The same in an event loop: a hundred requests at once, and events beside them."""

import asyncio

from tailrace import AsyncTailraceClient, Payload, read


class Greeting(Payload):
    text: str


class Finished(Payload):
    guests: int


async def main() -> None:
    async with AsyncTailraceClient(".tailrace", user="eli") as client, client.subscribe(Finished) as events:
        asked = [client.request("Greeter", Greeting(text=f"guest {n}"), timeout=30) for n in range(100)]
        answers = await asyncio.gather(*asked)
        print(read(answers[-1], Greeting).text)

        await client.publish(Finished(guests=len(answers)))
        async for event in events:
            print(read(event, Finished).guests)
            break


asyncio.run(main())
