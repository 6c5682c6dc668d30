from tailrace import Payload, Worker, local, reply


class Greeting(Payload):
    text: str


class Greeter(Worker):
    handles = (Greeting,)

    async def handle(self, message, context):
        return [reply(message, Greeting(text=f"Hello {message.payload.text}!"))]


if __name__ == "__main__":
    with local(Greeter()) as client:
        print(client.request("Greeter", Greeting(text="Ada")).content)
