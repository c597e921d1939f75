import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.cli.user_errors import UserError
from headrace.demo.export_folder import EVENT_TABLES, REFERENCE_TABLES
from headrace.demo.jafgen import split_jafgen_export

SAMPLE = {
    "customers": "id,name\r\nc1,Brian Johnson\r\nc2,Zoë Price\r\n",
    "products": 'sku,name,type,price,description\r\nJAF-1,doctor stew,jaffle,1100,"stew, in a jaffle"\r\n',
    "stores": "id,name,opened_at,tax_rate\r\ns1,Philadelphia,2018-09-01T00:00:00,0.06\r\n",
    "supplies": "id,name,cost,perishable,sku\r\nSUP-1,fork,7,False,JAF-1\r\nSUP-2,bread,33,True,JAF-1\r\n",
    "orders": "id,customer,ordered_at,store_id,subtotal,tax_paid,order_total\r\n"
    "o3,c1,2018-09-04T00:00:00,s1,1100,66,1166\r\n"
    "o2,c2,2018-09-01T23:59:59,s1,1100,66,1166\r\n"
    "o1,c1,2018-09-01T13:43:00,s1,2200,132,2332\r\n",
    "items": "id,order_id,sku\r\ni4,o3,JAF-1\r\ni1,o1,JAF-1\r\ni3,o2,JAF-1\r\ni2,o1,JAF-1\r\n",
    "tweets": "id,user_id,tweeted_at,content\r\n"
    't1,c2,2018-09-02T00:10:11.090977,"Jaffles, ""the best"" 🥪"\r\n'
    "t2,c1,2018-09-05T01:00:00,meh\r\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "jaffle-data"
    folder.mkdir()
    for table, text in SAMPLE.items():
        (folder / f"raw_{table}.csv").write_bytes(text.encode())
    return folder


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["demo-data", *map(str, arguments)])


def event_files(out: Path) -> set[str]:
    return {str(file.relative_to(out)) for file in out.glob("*/*")}


def test_event_tables_are_split_by_day_with_markers(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "exports"
    result = call("--jafgen", source, "--out", out)
    assert result.exit_code == 0
    assert result.output.startswith(f"wrote 5 days to {out}: 19 files, 3 orders, 4 items")
    assert event_files(out) == {
        *("orders/2018-09-01.csv", "items/2018-09-01.csv", "tweets/2018-09-01.empty"),
        *("orders/2018-09-02.empty", "items/2018-09-02.empty", "tweets/2018-09-02.csv"),
        *("orders/2018-09-03.empty", "items/2018-09-03.empty", "tweets/2018-09-03.empty"),
        *("orders/2018-09-04.csv", "items/2018-09-04.csv", "tweets/2018-09-04.empty"),
        *("orders/2018-09-05.empty", "items/2018-09-05.empty", "tweets/2018-09-05.csv"),
    }
    assert (out / "orders" / "2018-09-01.csv").read_text() == (
        "id,customer,ordered_at,store_id,subtotal,tax_paid,order_total\n"
        "o2,c2,2018-09-01T23:59:59,s1,1100,66,1166\n"
        "o1,c1,2018-09-01T13:43:00,s1,2200,132,2332\n"
    )
    assert (out / "items" / "2018-09-01.csv").read_text() == (
        "id,order_id,sku\ni1,o1,JAF-1\ni3,o2,JAF-1\ni2,o1,JAF-1\n"
    )
    assert (out / "tweets" / "2018-09-02.csv").read_text() == (
        'id,user_id,tweeted_at,content\nt1,c2,2018-09-02T00:10:11.090977,"Jaffles, ""the best"" 🥪"\n'
    )
    assert (out / "stores.csv").read_text() == SAMPLE["stores"].replace("\r\n", "\n")
    assert (out / "supplies.csv").read_text().splitlines()[1:] == [
        "SUP-1,fork,7,false,JAF-1",
        "SUP-2,bread,33,true,JAF-1",
    ]


def test_the_range_limits_the_days(source: Path, tmp_path: Path) -> None:
    split_jafgen_export(source, tmp_path / "some", first=date(2018, 9, 4), last=date(2030, 1, 1))
    assert event_files(tmp_path / "some") == {
        *("orders/2018-09-04.csv", "items/2018-09-04.csv", "tweets/2018-09-04.empty"),
        *("orders/2018-09-05.empty", "items/2018-09-05.empty", "tweets/2018-09-05.csv"),
    }
    with pytest.raises(UserError, match="has the days 2018-09-01 to 2018-09-05, none of which is asked for"):
        split_jafgen_export(source, tmp_path / "none", first=date(2019, 1, 1))
    assert not (tmp_path / "none").exists()


def test_columns_are_found_by_name(source: Path, tmp_path: Path) -> None:
    (source / "raw_items.csv").write_text("sku,id,order_id\nJAF-1,i1,o1\n")
    split_jafgen_export(source, tmp_path / "exports")
    assert (tmp_path / "exports" / "items" / "2018-09-01.csv").read_text() == "id,order_id,sku\ni1,o1,JAF-1\n"


def test_an_export_is_replaced_only_by_force(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "exports"
    assert call("--out", out, "--to", "2024-01-02").exit_code == 0
    refused = call("--jafgen", source, "--out", out)
    assert refused.exit_code == 2
    assert "has an export already" in refused.output
    assert call("--jafgen", source, "--out", out, "--force").exit_code == 0
    assert {file[-14:-4] for file in event_files(out) if file.endswith(".csv")} == {
        "2018-09-01",
        "2018-09-02",
        "2018-09-04",
        "2018-09-05",
    }
    assert "has an export from jafgen" in call("--out", out).output
    assert "has no demo data to revise" in call("--out", out, "--revise", "2018-09-01").output


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("tweets", None, "raw_tweets.csv is missing: --jafgen wants the folder that jafgen wrote"),
        ("stores", "id,name\ns1,x\n", "raw_stores.csv is not jafgen's: "),
        ("orders", SAMPLE["orders"].replace("2018-09-04T", "2018-19-04T"), "raw_orders.csv is not jafgen's: "),
        ("orders", SAMPLE["orders"].replace(",2332", ",x"), "raw_orders.csv is not jafgen's: "),
        ("items", "id,order_id,sku\ni9,o9,JAF-1\n", "raw_items.csv: item i9 has no order o9"),
    ],
)
def test_a_bad_file_is_named_in_one_line(
    source: Path, tmp_path: Path, table: str, text: str | None, message: str
) -> None:
    file = source / f"raw_{table}.csv"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    result = call("--jafgen", source, "--out", tmp_path / "exports")
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.slow
def test_a_year_of_jafgen_is_split_without_loss(tmp_path: Path) -> None:
    jafgen = Path(sys.executable).with_name("jafgen")
    subprocess.run([jafgen, "1"], cwd=tmp_path, check=True, capture_output=True)
    source, out = tmp_path / "jaffle-data", tmp_path / "exports"
    summary = split_jafgen_export(source, out)
    assert summary.days == 365
    for table, columns in (REFERENCE_TABLES | EVENT_TABLES).items():
        written = f"{out}/{table}.csv" if table in REFERENCE_TABLES else f"{out}/{table}/*.csv"
        read = f"header = true, delim = ',', quote = '\"', escape = '\"', types = {columns}"
        former, later = (
            duckdb.sql(f"from read_csv('{path}', {read})") for path in (f"{source}/raw_{table}.csv", written)
        )
        assert former.except_(later).fetchall() == [], table
        assert later.except_(former).fetchall() == [], table
        assert len(former) == len(later) > 0
