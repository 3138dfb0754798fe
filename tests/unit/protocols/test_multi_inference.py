"""``MultiInference`` gives up its tasks when the caller leaves, and begins none of a request that it cannot read."""

import asyncio

from inferd.protocols.grpc.exchange import GrpcExchange
from inferd.protocols.grpc.schema import message_class
from inferd.protocols.tfserving.grpc.multi import MultiEndpoint

CLASSIFY = "tensorflow/serving/classify"


class Pending:
    """An endpoint that never answers, and knows which callers have left."""

    def __init__(self):
        self.taken = []
        self.left = set()

    def handle(self, exchange):
        self.taken.append(exchange)
        exchange.on_disconnect = lambda: self.left.add(exchange)


def call(*methods):
    request = message_class("tensorflow.serving.MultiInferenceRequest")(
        tasks=[{"method_name": each} for each in methods]
    )
    return GrpcExchange(b"/MultiInference", {}, request.SerializeToString(), request_id="r")


def test_a_caller_who_leaves_leaves_nothing_behind():
    async def scenario():
        pending = Pending()
        endpoint = MultiEndpoint({CLASSIFY: pending})
        exchange = call(CLASSIFY, CLASSIFY)
        endpoint.handle(exchange)
        await asyncio.sleep(0)
        exchange.leave()
        await asyncio.sleep(0.01)
        assert len(pending.taken) == len(pending.left) == 2
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_no_task_begins_when_one_cannot_be_read():
    async def scenario():
        pending = Pending()
        exchange = call(CLASSIFY, "tensorflow/serving/train")
        MultiEndpoint({CLASSIFY: pending}).handle(exchange)
        assert (exchange.status, pending.taken) == (3, [])

    asyncio.run(scenario())
