"""Ask an agent and use its answer; go away in between, and take the answer up in another process.

cd examples/greeter
tailrace init --agent greeter:Greeter && tailrace worker greeter:Greeter --engine tail     # one terminal
python ../client/ask.py                                                                    # another one
"""

from tailrace import Payload, TailraceClient, read
from tailrace.errors import TimedOut


class Greeting(Payload):
    text: str


with TailraceClient(".tailrace", user="eli") as client:
    answer = client.request("Greeter", Greeting(text="Ada"), timeout=30)
    print(read(answer, Greeting).text)

    sent = client.send("Greeter", Greeting(text="Grace"), priority=8)

# The request is in the log, wherever this process goes. Its id is all that has to be kept.
with TailraceClient(".tailrace", user="eli") as later:
    try:
        print(read(later.wait(sent.message_id, timeout=30), Greeting).text)
    except TimedOut as error:
        print(error)
    print([row.kind for row in later.conversation(sent.correlation_id)])
