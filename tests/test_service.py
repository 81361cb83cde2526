"""examples/service.py: right answers, and what it says to wrong requests.

Each service is a process of its own at a free port of the loopback.
"""

import argparse
import asyncio
import contextlib
import http.client
import importlib.util
import io
import itertools
import json
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import python_environment

import lenet5c
from lenet5c.pictures import prepare, read_picture

Image = pytest.importorskip("PIL.Image")
for package in ("starlette", "uvicorn", "prometheus_client", "pythonjsonlogger"):
    pytest.importorskip(package)

PROGRAM = Path(__file__).parents[1] / "examples" / "service.py"
RAW = "application/octet-stream"
PATIENCE = 60  # seconds, on a busy machine


def wait_for(holds):
    """Until it does."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


class Running:
    """A service that has begun to listen, its port and its log."""

    def __init__(self, folder, model, *arguments):
        path = folder / "network.lenet5c"
        model.save(path)
        self.model = model
        self.log = folder / "log"
        command = [sys.executable, PROGRAM, path, "--port", "0", *arguments]
        with open(self.log, "w") as out, open(folder / "errors", "w") as errors:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=errors, env=python_environment()
            )
        self.errors = folder / "errors"
        wait_for(self.listens)

    def listens(self):
        found = re.search(r"http://127.0.0.1:(\d+)", self.log.read_text())
        self.port = found and int(found[1])
        assert self.process.poll() is None, self.errors.read_text()
        return found

    def ask(self, body=b"", kind=RAW, method="POST", path="/predict"):
        """Status and answer, JSON but for the metrics."""
        asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(asking):
            asking.request(method, path, body, {"Content-Type": kind})
            answer = asking.getresponse()
            return answer.status, json.load(answer)

    def send(self, *parts, pause=0.0):
        """Bytes as they are, with pauses until an answer comes; status and answer."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            for part in parts:
                connection.sendall(part)
                if select.select([connection], [], [], pause)[0]:
                    break
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, json.load(answer)

    def counts(self):
        """Answers by status, as /metrics counts them."""
        asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(asking):
            asking.request("GET", "/metrics")
            self.metrics = asking.getresponse().read().decode()
        found: dict[int, int] = {}
        pattern = r'^lenet5c_requests_total\{path="(?!/m).*",status="(\d+)"\} (\d+)'
        for status, count in re.findall(pattern, self.metrics, re.M):
            found[int(status)] = found.get(int(status), 0) + int(count)
        return found

    def stop(self):
        """SIGTERM; its log, of which each line is JSON."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0
        assert self.errors.read_text() == ""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert "Traceback" not in self.log.read_text()
        return [line for line in lines if line["message"] == "request"]


@pytest.fixture(scope="module")
def network():
    """LeNet-5 that tells ten patterns apart, and (60, 28, 28) uint8 of them."""
    rng = np.random.default_rng(7)
    patterns = rng.integers(0, 200, (10, 28, 28))
    noise = rng.integers(0, 56, (60, 28, 28))
    images = (patterns[np.arange(60) % 10] + noise).astype(np.uint8)
    model = lenet5c.lenet5()
    names = np.array(list("abcdefghij"))[np.arange(60) % 10]
    model.fit(images, names, epochs=3, batch_size=4, threads=1)
    assert len(set(model.predict(images))) > 5
    return model, images


@pytest.fixture(scope="module")
def program():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("service", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def start(tmp_path_factory, network):
    """A function that starts a service with these arguments."""
    running = []

    def begin(*arguments):
        folder = tmp_path_factory.mktemp("service")
        running.append(Running(folder, network[0], *arguments))
        return running[-1]

    yield begin
    for service in running:
        service.process.kill()
        service.process.wait()


@pytest.fixture(scope="module")
def narrow(start):
    """A service with a place in its one thread and one to wait at."""
    return start("--threads", "1", "--waiting", "1", "--seconds", str(PATIENCE))


def encoded(pixels, kind="PNG", **options):
    """The bytes of a picture's file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def png_of(width, height, data=b""):
    """A PNG that says that it is as large as that, whatever it holds."""
    chunks = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    for name, content in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b"")):
        crc = zlib.crc32(name + content)
        chunks += struct.pack(">I", len(content)) + name + content
        chunks += struct.pack(">I", crc)
    return chunks


def assert_answers(service, images, kind, bodies, read=None):
    """The answers of so many clients at once are those of `predict`."""
    model = service.model
    expected = images if read is None else np.array([read(body) for body in bodies])
    labels, shares = model.predict(expected), model.predict_proba(expected)
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda body: service.ask(body, kind), bodies))
    assert [status for status, _ in answers] == [200] * len(bodies)
    assert [answer["class"] for _, answer in answers] == labels.tolist()
    for (_, answer), row in zip(answers, shares, strict=True):
        assert list(answer["probabilities"]) == model.classes.tolist()
        np.testing.assert_allclose([*answer["probabilities"].values()], row, rtol=1e-4)
        assert answer["milliseconds"] > 0


def test_answers_to_many_clients_are_those_of_predict(start, network):
    images = network[1]
    service = start("--threads", "3")
    assert_answers(service, images, RAW, [image.tobytes() for image in images])
    assert_answers(service, images, "image/png", [*map(encoded, images)])
    photographs = [encoded(np.kron(i, np.ones((9, 9), "u1")), "JPEG") for i in images]

    def reduced(body):
        return read_picture(Image.open(io.BytesIO(body)), (28, 28), 1)

    assert_answers(service, images, "image/jpeg; q=1", photographs, reduced)
    assert service.ask(method="GET", path="/healthz") == (200, {"status": "ok"})
    assert service.counts() == {200: 181}
    assert 'request_seconds_count{path="/predict"} 180.0' in service.metrics
    assert "lenet5c_predictions_in_flight 0.0" in service.metrics
    requests = [r for r in service.stop() if r["path"] == "/predict"]
    assert {(r["method"], r["status"], r["client"]) for r in requests} == {
        ("POST", 200, "127.0.0.1")
    }
    assert len(requests) == 180


def test_photographs_are_prepared_where_that_is_asked_for(start, network):
    paper = np.full((300, 400), 230, np.uint8)
    paper[60:240, 190:215] = 40
    photographs = [encoded(paper), encoded(255 - paper, "JPEG")]
    service = start("--prepare")
    for photograph in photographs:
        image = prepare(Image.open(io.BytesIO(photograph)))
        status, answer = service.ask(photograph, "image/png")
        assert (status, answer["class"]) == (200, network[0].predict(image[None])[0])
    status, answer = service.ask(encoded(np.zeros((60, 60), np.uint8)), "image/png")
    assert status == 422
    assert answer == {"error": "expected a picture with a sign on it, got a blank one"}


def wrong_requests(service, image):
    """Functions that ask what is wrong, and the status that is the answer to it."""
    post = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
    chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
    for slow in (
        b"P",
        post,
        post + b"Content-Length: 9\r\n\r\nabc",
        chunked + b"5\r\na",
    ):
        yield 408, lambda slow=slow: service.send(slow)
    drops = [b"G", *[b"a"] * 500]
    yield 408, lambda: service.send(*drops, pause=0.02)
    rng = np.random.default_rng(1)
    png, jpeg = encoded(image), encoded(image, "JPEG")
    noise = [rng.bytes(n) for n in (*range(1, 17), 783, 785, 5000, 100_000)]
    bomb = png_of(60_000, 60_000, zlib.compress(bytes(10_000_000)))
    for kind in (
        "",
        "text/plain",
        "image/gif",
        "image/*",
        "application/json",
        "x" * 999,
    ):
        yield 415, lambda kind=kind: service.ask(png, kind)
    for body in (b"", b"a text", *noise):
        yield 422, lambda body=body: service.ask(body)
        yield 422, lambda body=body: service.ask(body, "image/png")
    for whole in (png, jpeg):
        for cut in rng.integers(1, len(whole) - 60, 50).tolist():
            yield 422, lambda body=whole[:cut]: service.ask(body, "image/jpeg")
    for width, height in ((1001, 1000), (1 << 30, 1), (2**31 - 1, 2**31 - 1)):
        body = png_of(width, height)
        yield 422, lambda body=body: service.ask(body, "image/png")
    for body in (bomb, png_of(0, 5), png_of(28, 28), png_of(28, 28, b"no zlib")):
        yield 422, lambda body=body: service.ask(body, "image/png")
    for end in ("GIF", "BMP", "TIFF", "PPM"):
        body = encoded(image, end)
        yield 422, lambda body=body: service.ask(body, "image/png")
    for size in (200_001, 3_000_000):
        yield 413, lambda size=size: service.ask(bytes(size))
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"):
        yield 405, lambda method=method: service.ask(method=method)
        yield (
            405,
            lambda method=method: service.ask(method=method + "A", path="/healthz"),
        )
    for path in ("/", "/predict/", "/../etc/passwd", "/%00%ff%2e", "/" + "a" * 9000):
        yield 404, lambda path=path: service.ask(path=path)
    for head in (
        *(b"hello\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", bytes(99)),
        *(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
            b"\r\n" * 3 + b"\xff\n\n",
        ),
        *(b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"),
        *(b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000,),
        *(post + b"Content-Length: -1\r\n\r\n", post + b"Content-Length: x\r\n\r\n"),
        *(post + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",),
        *(post + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",),
        *(post + b"Transfer-Encoding: gzip\r\n\r\n",),
    ):
        yield None, lambda head=head: service.send(head)
    for chunk in (b"zz\r\n", b"-1\r\n", b"5\r\nabcdefgh\r\n", b"f" * 99 + b"\r\n"):
        yield 400, lambda chunk=chunk: service.send(chunked + chunk)
    yield 422, lambda: service.send(chunked + b"0\r\n\r\n")
    many = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    yield 413, lambda: service.send(chunked + many * 8)


def test_wrong_requests_get_4xx_and_one_line_and_the_service_goes_on(start, network):
    model, images = network
    limits = ("--bytes", "200000", "--pixels", "1000000", "--seconds", "5")
    service = start(*limits, "--threads", "2")
    wrong = list(wrong_requests(service, images[0]))
    assert len(wrong) >= 200
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda one: one[1](), wrong))
    for number, ((expected, _), (status, answer)) in enumerate(
        zip(wrong, answers, strict=True)
    ):
        assert status == expected or (expected is None and 400 <= status < 500), number
        assert re.fullmatch(r"expected [^\n]+, got [^\n]+", answer.pop("error")), number
        assert answer == {}
        assert "0x" not in str(answer)  # no address
    counted: dict[int, int] = {}
    for status, _ in answers:
        counted[status] = counted.get(status, 0) + 1
    assert service.counts() == counted
    status, answer = service.ask(encoded(np.zeros((1001, 1000), np.uint8)), "image/png")
    expected = "expected a picture of at most 1,000,000 pixels, got 1000x1001"
    assert (status, answer) == (422, {"error": expected})
    assert service.ask(images[0].tobytes())[1]["class"] == model.predict(images[:1])[0]
    statuses = [r["status"] for r in service.stop() if r["path"] != "/metrics"]
    assert sorted(statuses) == sorted([200, 422, *(status for status, _ in answers)])


def test_what_is_broken_behind_an_answer_closes_the_connection(narrow):
    head = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", narrow.port), 30) as connection:
        connection.sendall(head)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, "POST /nowhere" in answer.read().decode()) == (404, True)
        connection.sendall(b"no chunk\r\n")
        assert connection.recv(1) == b""
    assert "Traceback" not in narrow.log.read_text()


def test_the_answer_to_what_is_no_request_says_how_long_it_is(narrow):
    """So a client has it whole, even if what it still sends is answered by a reset."""
    with socket.create_connection(("127.0.0.1", narrow.port), 30) as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.length == len(answer.read()) > 0


def test_who_leaves_in_the_middle_of_a_body_gives_the_place_back(narrow, network):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
    before = narrow.counts().get(400, 0)
    for gone in range(1, 5):
        with socket.create_connection(("127.0.0.1", narrow.port)) as leaving:
            leaving.sendall(head + b"Content-Length: 9\r\n\r\nabc")
        wait_for(lambda gone=gone: narrow.counts().get(400, 0) == before + gone)
        assert "in_flight 0.0" in narrow.metrics
    assert narrow.ask(network[1][0].tobytes())[0] == 200


def test_more_than_may_wait_are_told_to_come_again(narrow, network):
    body = network[1][0].tobytes()
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(2):
            asking = http.client.HTTPConnection(
                "127.0.0.1", narrow.port, timeout=PATIENCE
            )
            stack.enter_context(contextlib.closing(asking))
            asking.putrequest("POST", "/predict")
            asking.putheader("Content-Type", RAW)
            asking.putheader("Content-Length", str(len(body)))
            asking.endheaders(body[:9])
            held.append(asking)
        wait_for(lambda: narrow.counts() and "in_flight 2.0" in narrow.metrics)
        status, answer = narrow.ask(body)
        expected = "expected at most 2 at a time, got one more"
        assert (status, answer) == (503, {"error": expected})
        assert narrow.ask(method="GET", path="/healthz")[0] == 200
        for asking in held:
            asking.send(body[9:])
            assert asking.getresponse().status == 200
    assert narrow.ask(body)[0] == 200


def test_an_answer_that_takes_too_long_is_not_waited_for(program, network):
    network[0].save("network.lenet5c")
    limits = {"threads": 1, "waiting": 0, "bytes": 99, "seconds": 0.2}
    service = program.Service(
        argparse.Namespace(model="network.lenet5c", prepare=False, **limits)
    )
    end = threading.Event()
    service.answer = lambda kind, body: end.wait(PATIENCE)

    async def body():
        return {"type": "http.request"}

    def refusal():
        scope = {"type": "http", "headers": [(b"content-type", RAW.encode())]}
        with pytest.raises(program.HTTPException) as refused:
            asyncio.run(service.predict(program.Request(scope, body)))
        return refused.value.status_code, refused.value.detail

    assert refusal() == (503, "expected an answer in 0.2 s, got none")
    # the thread is at work
    assert refusal() == (503, "expected at most 1 at a time, got one more")
    end.set()
    service.pool.shutdown()
    assert service.places.acquire(timeout=0)


def test_sigterm_under_load_loses_nothing(start, program, network):
    """Clients that keep their connection, and some that make one for each request.

    A connection that was idle for longer than SETTLE may be closed.
    """
    model, images = network
    service = start("--threads", "2")
    labels = model.predict(images).tolist()
    done, lost = [], []

    def client(first, keep):
        asking = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
        now = 0
        for number in itertools.count(first):
            if asking.sock is None:
                now = time.monotonic()
                try:
                    asking.connect()
                except ConnectionRefusedError:
                    return  # not accepted
            before, now = now, time.monotonic()
            try:
                body, kind = images[number % 60].tobytes(), {"Content-Type": RAW}
                asking.request("POST", "/predict", body, kind)
                answer = asking.getresponse()
                given = json.load(answer)
                done.append((answer.status, given["class"] == labels[number % 60]))
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() - before < program.SETTLE:
                    lost.append(error)
                return
            if not keep:
                asking.close()

    clients = [threading.Thread(target=client, args=(n, n % 2)) for n in range(8)]
    for one in clients:
        one.start()
    wait_for(lambda: len(done) >= 200)
    requests = service.stop()
    for one in clients:
        one.join()
    assert lost == []
    assert set(done) == {(200, True)}
    assert len(requests) == len(done)


def test_the_command_line_says_what_is_wrong_in_one_line(
    program, network, monkeypatch, capsys
):
    Path("no.lenet5c").write_bytes(b"nothing")
    floats = lenet5c.lenet5()
    floats.fit(network[1] / 64 - 1, np.arange(60) % 10, epochs=1, threads=1)
    floats.save("floats.lenet5c")
    wide = lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 8, 9))
    wide.save("wide.lenet5c")
    for arguments, said in (
        (["absent.lenet5c"], "absent.lenet5c"),
        (["no.lenet5c"], "no.lenet5c"),
        (["floats.lenet5c"], "uint8"),
        (["wide.lenet5c", "--prepare"], "expected 1xNxN pixels, got (1, 8, 9)"),
        (["wide.lenet5c", "--threads", "0"], "--threads: expected 1 or more, got 0"),
        (["wide.lenet5c", "--waiting", "-1"], "--waiting: expected 0 or more, got -1"),
        (["wide.lenet5c", "--bytes", "0"], "--bytes: expected 1 or more, got 0"),
        (["wide.lenet5c", "--pixels", "0"], "--pixels: expected 1 or more, got 0"),
        (["wide.lenet5c", "--port", "-1"], "--port: expected 0 to 65535, got -1"),
        (["wide.lenet5c", "--port", "70000"], "--port: expected 0 to 65535, got 70000"),
        (["wide.lenet5c", "--seconds", "0"], "--seconds: expected more than 0, got 0"),
        (["wide.lenet5c", "--seconds", "nan"], "expected more than 0, got nan"),
    ):
        monkeypatch.setattr(sys, "argv", ["service.py", *arguments])
        with pytest.raises(SystemExit) as end:
            program.main()
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("service.py: error: ")
        assert said in line
        assert end.value.code == 2
    monkeypatch.setattr(sys, "argv", ["service.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        program.main()
    assert "of a picture, at most (default: 25000000)" in capsys.readouterr().out
