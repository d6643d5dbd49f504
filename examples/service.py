"""An order service: FastAPI, several worker processes, one store.

    pip install 'varve-store[web]'
    python examples/service.py [STORE] [--port 8000] [--workers 2]

    curl -i -X PUT -H 'Idempotency-Key: k1' --json '{"product": "Laptop", "quantity": 1}' http://127.0.0.1:8000/orders/7
    curl -i http://127.0.0.1:8000/orders/7
    curl -i -X DELETE -H 'If-Match: "1"' 'http://127.0.0.1:8000/orders/7?reason=late'
    curl -N 'http://127.0.0.1:8000/events?start=0'
    curl http://127.0.0.1:8000/health

- Each worker opens the store for itself, when it starts (``lifespan``): any worker appends, any worker reads.
- What follows from an order, its confirmation, is made in one worker at a time: whoever owns the consumer. When that worker dies,
  another one takes over, and goes on behind the last confirmation: none is lost, none made twice.
- Bodies are what the event classes say. An order's version is its ``ETag``; ``If-Match`` makes a change depend on it. The same
  ``Idempotency-Key`` with the same content is the same request: a client that got no answer asks again.
- Errors of the store become answers by their ``kind``.

docs/deployment.md says what else to think of. The same for your own service: ``uvicorn service:app --workers 2``.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import uvicorn
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, create_model

import varve

STORE_VARIABLE = "SERVICE_STORE"
"""Names the store to the workers, which are processes of their own."""
TAKE_OVER_S = 0.5
"""How often a worker asks whether the consumer has become free."""
KEEP_ALIVE_S = 15.0
"""After so long without an event a comment goes out: proxies keep the connection, and a dead client is noticed."""

log = logging.getLogger("uvicorn.error")


# -- events ----------------------------------------------------------------------------------------


@varve.event
class OrderPlaced:
    """A customer wants something."""

    product: str
    quantity: varve.u32
    note: str | None = None


@varve.event
class OrderCancelled:
    """It is not wanted any more."""

    reason: str


@varve.event
class OrderConfirmed:
    """The customer was told."""

    quantity: varve.u32


# -- bodies from event classes ---------------------------------------------------------------------

E = TypeVar("E")


def body_of(event_class: type[E]) -> Any:
    """What FastAPI takes to parse a body into an event: a pydantic model of its fields, widths of numbers included.

    For flat classes: fields of other event classes and of vectors of them would need models of their own.
    """
    hints = get_type_hints(event_class, include_extras=True)
    fields: dict[str, Any] = {}
    declared: Any = event_class  # @varve.event makes it a dataclass
    for field in dataclasses.fields(declared):
        default = ... if field.default is dataclasses.MISSING else field.default
        fields[field.name] = (bounded(hints[field.name]), default)
    model: Any = create_model(f"{event_class.__name__}Body", __config__=ConfigDict(extra="forbid"), **fields)

    def parse(body: BaseModel) -> E:
        return event_class(**body.model_dump())

    parse.__annotations__["body"] = model
    return Depends(parse)


def bounded(hint: Any) -> Any:
    """A field's type with the bounds of its width: ``varve.u32`` is an int from 0 to 2**32 - 1."""
    width = next((mark.name for mark in get_args(hint)[1:] if hasattr(mark, "name")), "")
    if width[:1] not in {"u", "i"}:
        return hint
    bits = int(width[1:])
    low, high = (0, 2**bits - 1) if width[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Annotated[int, Field(strict=True, ge=low, le=high)]


# -- the store of this worker ----------------------------------------------------------------------


class Shop:
    """What a worker works with."""

    def __init__(self, db: varve.Varve) -> None:
        self.db = db
        self.orders = db.stream("orders", OrderPlaced | OrderCancelled)
        self.confirmations = db.stream("confirmations", OrderConfirmed)
        self.is_confirming = False

    async def confirm_orders(self) -> None:
        """Confirm every order that is placed, while this worker owns the consumer; else wait until it does."""
        while True:
            try:
                await self._confirm()
            except varve.ConsumerBusy:  # another worker does it
                pass
            except varve.VarveError as error:
                log.exception("confirming stopped: %s", error.code)  # and begins again where it stood
            finally:
                self.is_confirming = False
            await asyncio.sleep(TAKE_OVER_S)

    async def _confirm(self) -> None:
        take = partial(self.db.consumer, "confirm", streams=["orders"], types=[OrderPlaced], commit="manual")
        async with await asyncio.to_thread(take) as consumer:  # to take it costs a commit
            self.is_confirming = True
            log.info("worker %d confirms orders from %d on", os.getpid(), consumer.position)
            async for batch in consumer.batches(100):
                async with self.db.transaction() as tx:  # confirmations and position: both, or neither
                    for recorded in batch:
                        confirmed = OrderConfirmed(recorded.event.quantity)
                        tx.append(self.confirmations, recorded.stream_id, confirmed)
                    tx.store_position(consumer)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open the store when the worker starts, close it when it ends. Never before: a handle does not survive a fork."""
    with varve.open(os.environ[STORE_VARIABLE]) as db:
        shop = app.state.shop = Shop(db)
        confirming = asyncio.create_task(shop.confirm_orders())
        try:
            yield
        finally:
            confirming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await confirming


app = FastAPI(title="Orders", lifespan=lifespan)


def shop_of(request: Request) -> Shop:
    """This worker's."""
    shop: Shop = request.app.state.shop
    return shop


TheShop = Annotated[Shop, Depends(shop_of)]


# -- errors ----------------------------------------------------------------------------------------

STATUS_OF: dict[varve.Kind, int] = {
    "invalid": 422,
    "conflict": 409,
    "retryable": 503,
    "unavailable": 503,
    "integrity": 500,
    "unknown": 500,  # perhaps written: ask again with the same Idempotency-Key
}


@app.exception_handler(varve.VarveError)
async def refused(request: Request, error: Exception) -> JSONResponse:
    """What the store says no to."""
    assert isinstance(error, varve.VarveError)
    status = STATUS_OF[error.kind]
    if isinstance(error, varve.WrongExpectedVersion) and "if-match" in request.headers:
        status = 412
    if status >= 500:
        log.error("%s: %s", error.code, error)
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"code": error.code, "detail": str(error)}, status, headers)


# -- orders ----------------------------------------------------------------------------------------


def version_of(if_match: str | None) -> varve.Expected | int:
    """What ``If-Match`` expects of an order. Raises ``InvalidInput``."""
    if if_match is None:
        return varve.STREAM_EXISTS
    text = if_match.removeprefix('"').removesuffix('"')
    if not (text.isascii() and text.isdecimal()):
        raise varve.InvalidInput(f'If-Match is a version in quotes, such as "1", not {if_match!r}')
    return int(text)


@app.put("/orders/{order_id}", status_code=201)
async def place(
    order_id: int,
    placed: Annotated[OrderPlaced, body_of(OrderPlaced)],
    shop: TheShop,
    response: Response,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """Place an order under a number that is free: 409 where it is not."""
    position = await shop.orders.append_async(
        order_id, placed, expected=varve.NO_STREAM, idempotency_key=idempotency_key
    )
    return written(position, response)


@app.delete("/orders/{order_id}")
async def cancel(
    order_id: int,
    reason: Annotated[str, Query(min_length=1)],
    shop: TheShop,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """Cancel an order: 412 where it is not what the client has seen."""
    position = await shop.orders.append_async(
        order_id, OrderCancelled(reason), expected=version_of(if_match), idempotency_key=idempotency_key
    )
    return written(position, response)


def written(position: varve.Position, response: Response) -> dict[str, Any]:
    """The answer to a change. One that was made before answers as it did then."""
    response.headers["ETag"] = f'"{position.stream_sequence + 1}"'
    return {"global_sequence": position.global_sequence, "replayed": position.replayed}


@app.get("/orders/{order_id}", response_model=None)
def show(order_id: int, shop: TheShop, response: Response) -> dict[str, Any] | JSONResponse:
    """An order as it is, both streams at one instant."""
    with shop.db.snapshot() as snap:
        history = list(snap.reader(shop.orders).iter_stream(order_id))
        confirmed = snap.reader(shop.confirmations).length(order_id)
    if not history:
        return JSONResponse({"code": "not_found", "detail": f"there is no order {order_id}"}, 404)
    order: dict[str, Any] = {"id": order_id, "cancelled": None, "confirmations": confirmed}
    for recorded in history:
        match recorded.event:
            case OrderPlaced() as placed:
                order |= varve.to_dict(placed)
            case OrderCancelled(reason):
                order["cancelled"] = reason
    response.headers["ETag"] = f'"{len(history)}"'
    return order


# -- events and health -----------------------------------------------------------------------------


@app.get("/events")
async def events(
    shop: TheShop, start: str = "end", last_event_id: Annotated[int | None, Header(ge=0)] = None
) -> StreamingResponse:
    """Server-sent events, whichever worker writes them: from a sequence, an instant, or the end on."""
    begin: Any = last_event_id + 1 if last_event_id is not None else start
    if begin == "end":
        begin = varve.END
    elif isinstance(begin, str):
        try:
            begin = int(begin) if begin.isdecimal() else datetime.fromisoformat(begin)
        except ValueError:
            raise varve.InvalidInput(f"start is a sequence, an instant in ISO 8601, or end, not {start!r}") from None
    return StreamingResponse(sent(shop.db.tail(begin)), media_type="text/event-stream")


async def sent(tail: varve.Tail[Any]) -> AsyncIterator[str]:
    """What one client gets. When it leaves, this is cancelled; a tail that is dropped leaves nothing behind."""
    batches = tail.batches(100)
    yield ": welcome\n\n"  # so that headers go out before the first event
    while True:
        try:
            batch = await asyncio.wait_for(anext(batches), KEEP_ALIVE_S)  # a tail survives being cancelled
        except TimeoutError:
            yield ": still here\n\n"
        else:
            for one in batch:
                data = {"stream": one.stream, "stream_id": one.stream_id, "event": varve.to_dict(one.event)}
                yield f"id: {one.global_sequence}\nevent: {one.type.__name__}\ndata: {json.dumps(data)}\n\n"


@app.get("/health")
def health(shop: TheShop) -> dict[str, Any]:
    """How the store is, as this worker sees it."""
    stats = shop.db.stats()
    return {
        "worker": os.getpid(),
        "events": stats.events,
        "map_use": stats.map_use,
        "readers": stats.readers,
        "failed_commits": stats.writes.failed,
        "is_confirming": shop.is_confirming,
        "confirming": {
            info.name: {"lag": info.lag, "worker": info.members[0].pid if info.running else None}
            for info in shop.db.consumers()
        },
    }


def main() -> int:
    """Serve the store named on the command line, or a temporary one, on the loopback interface."""
    parser = argparse.ArgumentParser(description="An order service with several workers over one store.")
    parser.add_argument("path", type=Path, nargs="?", help="the store (default: a temporary one)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes one that is free (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: %(default)s)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        path = options.path or Path(stack.enter_context(tempfile.TemporaryDirectory()), "store")
        os.environ[STORE_VARIABLE] = str(path.absolute())
        uvicorn.run(
            "service:app",
            app_dir=str(Path(__file__).parent),
            port=options.port,
            workers=options.workers,
            timeout_graceful_shutdown=1,  # streams have no end of their own
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
