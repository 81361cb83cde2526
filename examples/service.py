"""A network behind HTTP: what it takes to answer strangers, in one file.

    python examples/service.py digits.lenet5c --prepare
    curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' localhost:8000/predict

Needs lenet5c[service]. docs/serving.md says what each limit is for.
"""

import argparse
import asyncio
import contextlib
import ctypes
import io
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h11
import numpy as np
import prometheus_client as prometheus
import uvicorn
from anyio import fail_after
from PIL import Image
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

import lenet5c
from lenet5c.pictures import NothingFound, prepare, read_picture

RAW = "application/octet-stream"
KINDS = ("image/png", "image/jpeg", RAW)
PATHS = ("/predict", "/healthz", "/metrics")
SETTLE = 0.2  # seconds after SIGTERM in which what is on its way here arrives
LOG = logging.getLogger("service")

REQUESTS = prometheus.Counter("lenet5c_requests", "Answers", ["path", "status"])
TOOK = prometheus.Histogram(
    "lenet5c_request_seconds",
    "From the head of a request to the end of its answer",
    ["path"],
    buckets=[n * 10.0**e for e in (-4, -3, -2, -1, 0) for n in (1, 2.5, 5)],
)
IN_FLIGHT = prometheus.Gauge("lenet5c_predictions_in_flight", "Begun and not done")


def refused(status: int, expected: str, given: object) -> HTTPException:
    again = {"Retry-After": "1"} if status == 503 else None
    return HTTPException(status, f"expected {expected}, got {given}", again)


class Service:
    """A network, the threads that predict with it, and what a request may take."""

    def __init__(self, args: argparse.Namespace) -> None:
        model = lenet5c.load(args.model)
        self.limits = args
        self.predictor = model.predictor()  # all threads may share it
        self.shape = (model.input_shape[0], *model.source)
        if args.prepare and self.shape != (1, model.source[0], model.source[0]):
            raise ValueError(f"--prepare: expected 1xNxN pixels, got {self.shape}")
        self.dark = model.stage.mean > 0.5  # ink, on light paper, in training
        # what cannot be is said now, and the first request waits for no import
        self.predictor.predict_proba(np.zeros(self.shape, np.uint8))
        if args.prepare:
            prepare(np.eye(99), self.shape[1])
        self.pool = ThreadPoolExecutor(args.threads)
        self.most = args.threads + args.waiting
        self.places = threading.Semaphore(self.most)

    async def predict(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in KINDS:
            raise refused(415, f"Content-Type {' or '.join(KINDS)}", repr(kind[:99]))
        if not self.places.acquire(blocking=False):
            raise refused(503, f"at most {self.most} at a time", "one more")
        IN_FLIGHT.inc()
        job = None
        try:
            body = await self.body(request)
            job = self.pool.submit(self.answer, kind, body)
        finally:
            if job is None:
                self.leave()
        # no thread can be stopped: its place is free when it is done, not before
        job.add_done_callback(self.leave)
        try:
            with fail_after(self.limits.seconds):
                return JSONResponse(await asyncio.wrap_future(job))
        except TimeoutError:
            limit = f"an answer in {self.limits.seconds:g} s"
            raise refused(503, limit, "none") from None

    def leave(self, job: object = None) -> None:
        IN_FLIGHT.dec()
        self.places.release()

    async def body(self, request: Request) -> bytes:
        most, seconds = self.limits.bytes, self.limits.seconds
        declared = int(request.headers.get("content-length", 0))  # h11 checks digits
        body = bytearray()
        try:
            with fail_after(seconds):
                async for part in request.stream():
                    body += part
                    if (size := max(declared, len(body))) > most:
                        raise refused(413, f"at most {most:,} bytes", f"{size:,}")
        except TimeoutError:
            given = f"{len(body):,} bytes of it"
            raise refused(408, f"the whole body in {seconds:g} s", given) from None
        except ClientDisconnect:
            raise refused(400, "a whole body", f"{len(body):,} bytes of it") from None
        return bytes(body)

    def answer(self, kind: str, body: bytes) -> dict[str, object]:
        """What /predict says; in one of the threads, the network without the GIL."""
        started = time.perf_counter()
        image = self.raw(body) if kind == RAW else self.picture(body)
        shares = self.predictor.predict_proba(image)
        labels = self.predictor.labels
        return {
            "class": labels[shares.argmax()],
            "probabilities": dict(zip(map(str, labels), shares.tolist(), strict=True)),
            "milliseconds": round((time.perf_counter() - started) * 1000, 3),
        }

    def raw(self, body: bytes) -> np.ndarray:
        if len(body) != (size := int(np.prod(self.shape))):
            expected = f"{size:,} bytes, {'x'.join(map(str, self.shape))} pixels"
            raise refused(422, expected, f"{len(body):,}")
        return np.frombuffer(body, np.uint8).reshape(self.shape)

    def picture(self, body: bytes) -> np.ndarray:
        most, size = self.limits.pixels, f"{len(body):,} bytes"
        try:
            picture = Image.open(io.BytesIO(body), formats=("PNG", "JPEG"))
            if picture.width * picture.height > most:  # none is decoded so far
                given = f"{picture.width}x{picture.height}"
                raise refused(422, f"a picture of at most {most:,} pixels", given)
            if not self.limits.prepare:
                return read_picture(picture, self.shape[1:], self.shape[0])
            found = prepare(picture, self.shape[1])
        except NothingFound:
            raise refused(422, "a picture with a sign on it", "a blank one") from None
        except Image.UnidentifiedImageError:
            raise refused(422, "a PNG or JPEG picture", f"{size} of no such") from None
        except (OSError, ValueError) as error:  # whose cause is Pillow's own words
            given = f"{size}: {error.__cause__ or error}"
            raise refused(422, "a whole picture", given) from None
        return 255 - found if self.dark else found


async def healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    text = prometheus.generate_latest()
    return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)


async def explain(request: Request, error: Exception) -> Response:
    """A refusal as a line of JSON. What is our own fault is told to the log alone."""
    if not isinstance(error, HTTPException):
        return JSONResponse({"error": "the service has failed"}, 500)
    text = error.detail
    if error.status_code in (404, 405):  # Starlette's
        given = f"{request.method} {request.url.path[:99]}"
        text = f"expected POST /predict, GET /healthz or GET /metrics, got {given}"
    return JSONResponse({"error": text}, error.status_code, error.headers)


def record(status: int, seconds: float, client: object, scope: dict) -> None:
    """Count an answer, and write its line of the access log."""
    path = scope.get("path", "")
    known = path if path in PATHS else "other"  # strangers make up no metrics
    REQUESTS.labels(known, status).inc()
    TOOK.labels(known).observe(seconds)
    fields = {"method": scope.get("method"), "path": path[:99], "status": status}
    fields |= {"client": client and client[0], "milliseconds": round(seconds * 1e3, 3)}
    LOG.info("request", extra=fields)


def recorded(app):
    """The app, with a record of each answer."""

    async def run(scope, receive, send):
        started, status = time.perf_counter(), 500

        async def sent(message):
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await app(scope, receive, sent)
        finally:
            record(status, time.perf_counter() - started, scope["client"], scope)

    return run


class Connection(H11Protocol):
    """Uvicorn's HTTP, which also answers and records what never becomes a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        end = self.timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, end
        )

    def data_received(self, data: bytes) -> None:
        self.conn.receive_data(data)  # the timer runs on until the head is whole
        self.handle_events()

    def timeout_keep_alive_handler(self) -> None:
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            limit = f"the whole head in {self.timeout_keep_alive:g} s"
            self.refuse(408, limit, "a part of it")
        super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "HTTP/1.1", "something else")

    def refuse(self, status: int, expected: str, given: str) -> None:
        if self.conn.our_state is h11.IDLE:  # otherwise the app does it
            record(status, 0, self.client, {})
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # none has begun
            line = json.dumps({"error": refused(0, expected, given).detail}).encode()
            headers = [("Content-Type", "application/json"), ("Connection", "close")]
            headers.append(("Content-Length", str(len(line))))
            head = h11.Response(status_code=status, headers=headers)
            for event in (head, h11.Data(data=line), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()


class Server(uvicorn.Server):
    """Uvicorn, which at SIGTERM answers all that was sent to it, and then closes."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.server_state.default_headers.append((b"connection", b"close"))
        for server in self.servers:
            for listening in server.sockets:
                with contextlib.suppress(OSError):  # the kernel has no such filter
                    refuse_handshakes(listening)
        await asyncio.sleep(SETTLE)
        await super().shutdown(sockets)


def refuse_handshakes(listening: socket.socket) -> None:
    """Have the kernel make no new connections, and keep those that it has made.

    To close the socket now would reset those that wait to be accepted. The filter drops
    SYN segments: who connects tries again, and is refused once the socket is closed.
    """
    # BPF: load byte 13 of the header; if it has the bit of SYN keep 0 bytes, else all
    steps = ((0x30, 0, 0, 13), (0x45, 0, 1, 2), (6, 0, 0, 0), (6, 0, 0, 0xFFFFFFFF))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *s) for s in steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(code))
    listening.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Serve a network: POST /predict, GET /healthz, GET /metrics.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="file of a network that was trained on bytes")
    add("--host", default="127.0.0.1", help="address to listen at")
    add("--port", type=int, default=8000, help="0: a free one, which the log says")
    add("--threads", type=int, default=os.cpu_count(), help="that predict")
    add("--waiting", type=int, default=64, help="requests beside those in threads")
    add("--bytes", type=int, default=10_000_000, help="of a body, at most")
    add("--pixels", type=int, default=25_000_000, help="of a picture, at most")
    add("--seconds", type=float, default=10, help="for a head, a body, an answer")
    add("--prepare", action="store_true", help="find the sign on each picture")
    args = parser.parse_args()
    for name, least in ("threads", 1), ("waiting", 0), ("bytes", 1), ("pixels", 1):
        if (given := getattr(args, name)) < least:
            parser.error(f"--{name}: expected {least} or more, got {given}")
    if not 0 <= args.port <= 65535:
        parser.error(f"--port: expected 0 to 65535, got {args.port}")
    if not args.seconds > 0:
        parser.error(f"--seconds: expected more than 0, got {args.seconds:g}")
    try:
        service = Service(args)
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    handler = logging.StreamHandler(sys.stdout)
    known = [*RESERVED_ATTRS, "color_message"]  # the last is uvicorn's
    fields = ("levelname", "message")
    handler.setFormatter(JsonFormatter(fields, timestamp="time", reserved_attrs=known))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.captureWarnings(True)
    Image.MAX_IMAGE_PIXELS = None  # --pixels is the limit
    predict = Route("/predict", service.predict, methods=["POST"])
    app = Starlette(
        routes=[predict, Route("/healthz", healthz), Route("/metrics", metrics)],
        middleware=[Middleware(recorded)],
        exception_handlers={HTTPException: explain, Exception: explain},
    )
    app.router.redirect_slashes = False
    config = uvicorn.Config(
        app,
        host=args.host,
        port=args.port,
        http=Connection,
        timeout_keep_alive=args.seconds,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # which uvicorn raises at its end
        signal.signal(number, lambda *_: sys.exit(0))
    Server(config).run()


if __name__ == "__main__":
    main()
