"""The lake in an object store, against moto's S3 server, and behind a proxy that is not as it should be."""

import http.client
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import duckdb
import pytest

from ingest.exports import ExportError
from ingest.lake import ObjectLake, Write, open_lake
from ingest.loading import load
from ingest.tables import TABLES

pytest.importorskip("obstore", reason="the extra ingest[s3] is not installed")
boto3 = pytest.importorskip("boto3", reason="moto[server] is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")

STORES = next(table for table in TABLES if table.name == "stores")


def written(content: bytes) -> Write:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = moto.ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    # moto's buckets outlive its server.
    name = f"bucket-{port}"
    boto3.client("s3").create_bucket(Bucket=name)
    yield f"s3://{name}/lake"
    server.stop()


@pytest.mark.slow
def test_a_table_is_put_replaced_and_read(
    bucket: str, good_exports: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    lake = open_lake(bucket)
    for rate in ("0.06", "0.07"):
        (good_exports / "stores.csv").write_text(f"id,name,opened_at,tax_rate\ns1,Oslo,2024-01-01,{rate}\n")
        loaded = load(connection, STORES, exports=good_exports, lake=lake)
    assert loaded.location == f"{bucket}/raw/stores/data.parquet"
    bucket_name, _, key = loaded.location.removeprefix("s3://").partition("/")
    assert boto3.client("s3").head_object(Bucket=bucket_name, Key=key)["ContentLength"] == loaded.bytes
    lake.connect(connection)
    assert connection.read_parquet(loaded.location).project("tax_rate").fetchall() == [(0.07,)]


@pytest.mark.slow
def test_rows_that_were_set_aside_are_put_and_removed(
    bucket: str, good_exports: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    lake = open_lake(bucket)
    table = replace(STORES, max_quarantined_rows=1)
    found = []
    for rate in ("much", "0.06", "0.07"):
        (good_exports / "stores.csv").write_text(f"id,name,opened_at,tax_rate\ns1,Oslo,2024-01-01,{rate}\n")
        loaded = load(connection, table, exports=good_exports, lake=lake)
        name, _, folder = bucket.removeprefix("s3://").partition("/")
        stored = boto3.client("s3").list_objects_v2(Bucket=name, Prefix=f"{folder}/quarantine/").get("Contents", [])
        found.append((loaded.quarantine, [f"s3://{name}/{each['Key']}" for each in stored]))
    aside = f"{bucket}/quarantine/stores/rows.parquet"
    assert found == [(aside, [aside]), (None, []), (None, [])]


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_one_line(
    bucket: str, good_exports: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    lake = open_lake(bucket.replace("bucket", "other"))
    with pytest.raises(ExportError, match=r"^stores: s3://other-\d+/lake/raw/stores/.*: there is no such bucket$"):
        load(connection, STORES, exports=good_exports, lake=lake)


@pytest.mark.slow
def test_a_large_file_goes_in_parts_and_arrives_whole(bucket: str) -> None:
    content = b"".join(number.to_bytes(4, "big") for number in range(4_000_000))
    size = open_lake(bucket).replace("raw/big/data.parquet", written(content))
    assert size == len(content) == 16_000_000
    name, _, folder = bucket.removeprefix("s3://").partition("/")
    stored = boto3.client("s3").get_object(Bucket=name, Key=f"{folder}/raw/big/data.parquet")
    assert "-" in stored["ETag"], "the mark of an upload in parts"
    assert stored["Body"].read() == content


PARTITIONS = 100
REQUEST_SECONDS, RETRY_SECONDS = 2.0, 6.0


class Proxy(ThreadingHTTPServer):
    """Stands before a server: some requests are answered by 503, cut before or behind the server, or never.

    Args:
        server: the server's address.
        faults: how many of a hundred requests have each fault.
    """

    daemon_threads = True

    def __init__(self, server: str, **faults: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.server = urlsplit(server).netloc
        self.faults = faults
        self.chosen = random.Random(7)  # noqa: S311 - no secret
        self.seen = dict.fromkeys(faults, 0)
        self.ended = Event()
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def draw(self) -> str | None:
        """Return the fault of the next request, or none."""
        drawn = self.chosen.randrange(100)
        for fault, share in self.faults.items():
            if drawn < share:
                self.seen[fault] += 1
                return fault
            drawn -= share
        return None

    def close(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers for the server, or does not."""

    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.draw()
        self.close_connection = fault is not None
        if fault == "stalls":
            self.server.ended.wait(60)
        elif fault == "is_busy":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault != "cuts":
            status, headers, content = self.forward(body)
            if fault != "cuts_late":
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

    def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.server, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        content = response.read()
        connection.close()
        headers = [(name, value) for name, value in response.getheaders() if name.lower() == "etag"]
        return response.status, [*headers, ("Content-Length", str(len(content)))], content

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def behind(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Proxy, ObjectLake]]]:
    """Return what puts a proxy with faults before the bucket."""
    opened = []

    def open_(**faults: int) -> tuple[Proxy, ObjectLake]:
        proxy = Proxy(boto3.client("s3").meta.endpoint_url, **faults)
        opened.append(proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        return proxy, ObjectLake(bucket, request_seconds=REQUEST_SECONDS, retry_seconds=RETRY_SECONDS)

    yield open_
    for proxy in opened:
        proxy.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["is_busy", "cuts", "cuts_late", "stalls"])
def test_a_store_that_is_not_as_it_should_be_loses_nothing(
    bucket: str, behind: Callable[..., tuple[Proxy, ObjectLake]], fault: str
) -> None:
    real = boto3.client("s3")
    proxy, lake = behind(**{fault: 5 if fault == "stalls" else 20})
    sizes = {}
    for number in range(PARTITIONS):
        content = f"{number}".encode() * 1000
        name = f"raw/orders/day={number:03}/data.parquet"
        sizes[name] = lake.replace(name, written(content))
    assert proxy.seen[fault] > 0
    name, _, folder = bucket.removeprefix("s3://").partition("/")
    stored = real.list_objects_v2(Bucket=name, Prefix=folder)["Contents"]
    assert {each["Key"].removeprefix(f"{folder}/"): each["Size"] for each in stored} == sizes
    last = real.get_object(Bucket=name, Key=f"{folder}/raw/orders/day=042/data.parquet")["Body"].read()
    assert last == b"42" * 1000


@pytest.mark.slow
@pytest.mark.timeout(10 * (RETRY_SECONDS + REQUEST_SECONDS))  # without a limit it never comes back
@pytest.mark.parametrize("fault", ["is_busy", "cuts", "stalls"])
def test_a_store_that_never_answers_is_a_line_in_time_and_the_old_file_stays(
    bucket: str, behind: Callable[..., tuple[Proxy, ObjectLake]], fault: str
) -> None:
    real = boto3.client("s3")
    name, _, folder = bucket.removeprefix("s3://").partition("/")
    real.put_object(Bucket=name, Key=f"{folder}/raw/stores/data.parquet", Body=b"old")
    _, lake = behind(**{fault: 100})
    with pytest.raises(OSError, match=r"^s3://bucket-\d+/lake/raw/stores/data.parquet: .*PUT") as caught:
        lake.replace("raw/stores/data.parquet", written(b"new"))
    assert "\n" not in str(caught.value)
    assert real.get_object(Bucket=name, Key=f"{folder}/raw/stores/data.parquet")["Body"].read() == b"old"
