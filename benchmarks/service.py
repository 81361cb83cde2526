"""examples/service.py under load, on the loopback, from clients on the same CPUs.

    python benchmarks/service.py [--seconds 5] [--requests 50000] [--rounds 5]

Requests a second and their latency by number of clients; 1,000 wrong requests among
right ones; memory over many requests; SIGTERM under load, and what is lost. Needs
lenet5c[service]. Clients are processes, which take their share of the CPUs.
"""

import argparse
import contextlib
import http.client
import io
import multiprocessing
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import machine, noise, table
from PIL import Image

import lenet5c

PROGRAM = Path(__file__).parents[1] / "examples" / "service.py"
RAW = "application/octet-stream"
CLIENTS = (1, 2, 8, 32)


class Service:
    """A process with a network of its own, which listens."""

    def __init__(self, *arguments: str) -> None:
        folder = tempfile.TemporaryDirectory()
        model = lenet5c.lenet5()
        model.fit(*noise(1000), epochs=1)
        path, log = (Path(folder.name, name) for name in ("a.lenet5c", "log"))
        model.save(path)
        command = [sys.executable, PROGRAM, path, "--port", "0", *arguments]
        with open(log, "w") as out:
            self.process = subprocess.Popen(command, stdout=out)
        while not (found := re.search(r"127\.0\.0\.1:(\d+)", log.read_text())):
            if self.process.poll() is not None:
                raise SystemExit("the service has not started")
            time.sleep(0.05)
        self.folder, self.port = folder, int(found[1])

    def megabytes(self) -> float:
        """Of its memory, as it says itself."""
        asking = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(asking):
            asking.request("GET", "/metrics")
            text = asking.getresponse().read().decode()
        found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.M)
        return float(found[1]) / 1e6

    def stop(self) -> tuple[int, float]:
        """Exit code, and seconds from SIGTERM to the end."""
        started = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(), time.perf_counter() - started


@contextlib.contextmanager
def service(*arguments: str) -> Iterator[Service]:
    running = Service(*arguments)
    try:
        yield running
    finally:
        running.stop()
        running.folder.cleanup()


def request_of(body: bytes, kind: str = RAW) -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answered(connection: socket.socket, request: bytes) -> tuple[int, bool]:
    """The status of the answer, and whether the connection closes with it."""
    connection.sendall(request)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status, answer.will_close


def client(
    port: int, requests: list[bytes], until: float, most: int, keep: bool
) -> tuple[list[float], Counter]:
    """Seconds of each answer; statuses, and how often a request got none."""
    took: list[float] = []
    said: Counter = Counter()
    connection = None
    for number in range(most):
        if time.time() > until:
            break
        try:
            connection = connection or socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            break
        try:
            started = time.perf_counter()
            status, last = answered(connection, requests[number % len(requests)])
            took.append(time.perf_counter() - started)
        except (OSError, http.client.HTTPException):
            status, last = "lost", True
        said[status] += 1
        if last or not keep:
            connection.close()
            connection = None
    return took, said


def load(
    port: int, requests: list[bytes], clients: int, seconds: float, most: int, keep=True
) -> tuple[np.ndarray, Counter, float]:
    """Seconds of each answer, statuses and seconds of them all."""
    with multiprocessing.Pool(clients) as pool:
        started, until = time.perf_counter(), time.time() + seconds
        arguments = [(port, requests, until, most, keep)] * clients
        found = pool.starmap(client, arguments, chunksize=1)
        whole = time.perf_counter() - started
    said = sum((one for _, one in found), Counter())
    return np.concatenate([took for took, _ in found]), said, whole


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def photograph() -> bytes:
    """A JPEG of 4000x3000 with a stroke on uneven light."""
    light = np.linspace(150, 240, 4000, dtype=np.float32)[None].repeat(3000, 0)
    light[800:2200, 1900:2050] -= 110
    return encoded(light.astype(np.uint8), "JPEG")


def speed(seconds: float) -> None:
    images = noise(100)[0]
    kinds = {
        "pixels, 28x28": ([request_of(image.tobytes()) for image in images], ()),
        "PNG, 28x28": (
            [request_of(encoded(i, "PNG"), "image/png") for i in images],
            (),
        ),
        "JPEG, 4000x3000": ([request_of(photograph(), "image/jpeg")], ("--prepare",)),
    }
    rows = [("", "clients", "requests/s", "p50 ms", "p99 ms")]
    for name, (requests, arguments) in kinds.items():
        with service(*arguments) as running:
            for clients in CLIENTS[:2] if arguments else CLIENTS:
                took, said, whole = load(
                    running.port, requests, clients, seconds, 1_000_000
                )
                if set(said) != {200}:
                    raise SystemExit(f"{name}: expected 200 alone, got {said}")
                half, most = np.percentile(took, (50, 99)) * 1000
                rate = f"{len(took) / whole:,.0f}"
                rows.append((name, str(clients), rate, f"{half:.2f}", f"{most:.2f}"))
    print(table(rows), end="\n\n")


def mistakes() -> list[bytes]:
    """Requests that are wrong, each in another way."""
    random, image = np.random.default_rng(0), noise(1)[0][0]
    png = encoded(image, "PNG")
    cuts = random.integers(1, len(png) - 60, 30)
    return [
        *(request_of(png[:cut], "image/png") for cut in cuts),
        *(request_of(random.bytes(n)) for n in random.integers(0, 700, 30)),
        *(request_of(random.bytes(n), "image/jpeg") for n in (0, 1, 9, 100, 99_999)),
        *(request_of(png, kind) for kind in ("text/plain", "image/gif", "x" * 999)),
        *(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % name for name in (b"GET", b"FOO")),
        *(b"GET /predict HTTP/1.1\r\nHost: a\r\n\r\n", b"nothing\r\n\r\n"),
        request_of(b"")[:-4] + b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]


def wrong() -> None:
    right = [request_of(image.tobytes()) for image in noise(100)[0]]
    with service() as running:
        said = load(running.port, mistakes(), 4, 600, 250, keep=False)[1]
        print("1,000 wrong requests:", dict(sorted(said.items(), key=str)))
        said = load(running.port, right, 4, 600, 25)[1]
        print("100 right ones after them:", dict(said), end="\n\n")


def memory(requests: int) -> None:
    mixed = [request_of(encoded(i, "PNG"), "image/png") for i in noise(100)[0]]
    mixed += [one for one in mistakes() if one.startswith(b"POST") and b"zz" not in one]
    rows = [("requests", "MB")]
    with service() as running:
        for done in range(0, requests + 1, 5000):
            if done:
                load(running.port, mixed, 4, 600, 5000 // 4)
            rows.append((f"{done:,}", f"{running.megabytes():.1f}"))
    print(table(rows), end="\n\n")


def ends(rounds: int) -> None:
    """SIGTERM while clients keep their connections, and while they make new ones."""
    requests = [request_of(image.tobytes()) for image in noise(100)[0]]
    rows = [("SIGTERM under load", "answered", "lost", "exit codes", "longest, s")]
    for name, keep in (("connections kept", True), ("one for each request", False)):
        answers, lost, codes, longest = 0, 0, set(), 0.0
        for _ in range(rounds):
            running = Service()
            with multiprocessing.Pool(8) as pool:
                arguments = [(running.port, requests, 1e18, 1_000_000, keep)] * 8
                found = pool.starmap_async(client, arguments, chunksize=1)
                time.sleep(1)
                code, took = running.stop()
                said = sum((one for _, one in found.get()), Counter())
            running.folder.cleanup()
            answers, lost = (
                answers + sum(said.values()) - said["lost"],
                lost + said["lost"],
            )
            codes.add(code)
            longest = max(longest, took)
        cells = f"{answers:,}", str(lost), str(sorted(codes)), f"{longest:.2f}"
        rows.append((name, *cells))
    print(table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="for each row")
    parser.add_argument("--requests", type=int, default=50_000, help="for memory")
    parser.add_argument("--rounds", type=int, default=5, help="of SIGTERM")
    arguments = parser.parse_args()
    print(machine() + "\n")
    speed(arguments.seconds)
    wrong()
    memory(arguments.requests)
    ends(arguments.rounds)


if __name__ == "__main__":
    main()
