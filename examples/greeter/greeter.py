from tailrace import Payload, Worker, local, reply


class Greet(Payload):
    name: str


class Greeted(Payload):
    text: str


class Greeter(Worker):
    handles = (Greet,)

    async def handle(self, message, context):
        return [reply(message, Greeted(text=f"Hello {message.payload.name}!"))]


if __name__ == "__main__":
    with local(Greeter()) as client:
        print(client.request("Greeter", Greet(name="Ada")).content)
