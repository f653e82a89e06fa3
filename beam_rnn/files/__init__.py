"""Files of records and of rows: CSV, Parquet, Arrow and JSON lines, by suffix."""
