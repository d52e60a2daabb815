"""Parquet data sets to JSONL rows."""
import datetime
import decimal
import json
import os
from typing import Any


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, bytes):
        raise TypeError("binary values cannot be written as JSON")
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)


def _line(source: str, number: int, row: dict[str, Any]) -> str:
    """The row as JSON; ValueError says where it cannot be."""
    try:
        return _json(row)
    except (TypeError, ValueError):
        pass
    for column, value in row.items():
        try:
            _json(value)
        except (TypeError, ValueError) as e:
            raise ValueError(f"{source}: row {number}, column '{column}': {e}") from None
    raise ValueError(f"{source}: row {number} cannot be written as JSON")


def parquet_to_jsonl(source: str, target: str) -> int:
    """Writes one object a row, all columns kept; returns the number of rows. The target appears
    only when it is complete. ValueError names row (from 1) and column of what JSON cannot hold."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise SystemExit("convert needs pyarrow: pip install 'tramontane-verifier[parquet]'") from None
    rows = 0
    partial = target + ".partial"
    try:
        with open(partial, "w", encoding="utf-8") as out:
            for batch in pyarrow.parquet.ParquetFile(source).iter_batches():
                for row in batch.to_pylist():
                    rows += 1
                    out.write(_line(source, rows, row) + "\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, target)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise
    return rows
