"""The lake in an object store, against moto's S3 server."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from ingest.exports import ExportError
from ingest.lake import open_lake
from ingest.loading import load
from ingest.tables import TABLES

s3fs = pytest.importorskip("s3fs", reason="the extra ingest[s3] is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")

STORES = next(table for table in TABLES if table.name == "stores")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = moto.ThreadedMotoServer(port=0)
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
    # fsspec keeps file systems by their arguments, not by the environment that they were made in.
    s3fs.S3FileSystem.clear_instance_cache()
    # moto's buckets outlive its server.
    name = f"bucket-{port}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/lake"
    s3fs.S3FileSystem.clear_instance_cache()
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
    assert s3fs.S3FileSystem().info(loaded.location)["size"] == loaded.bytes
    lake.connect(connection)
    assert connection.read_parquet(loaded.location).project("tax_rate").fetchall() == [(0.07,)]


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_one_line(
    bucket: str, good_exports: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    lake = open_lake(bucket.replace("bucket", "other"))
    with pytest.raises(ExportError, match=r"^stores: s3://other-\d+/lake/.*bucket does not exist$"):
        load(connection, STORES, exports=good_exports, lake=lake)
