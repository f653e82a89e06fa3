"""Files of records and of rows: CSV, Parquet, Arrow and JSON lines, by suffix."""

import beam_rnn.streaming.quiet_beam  # noqa: F401  # before anything else imports Beam
from beam_rnn.core.atomic_files import replacing
from beam_rnn.files.read import ReadFiles, json_record, read_file
from beam_rnn.files.set_aside import WriteAside
from beam_rnn.files.write import WriteFile, json_line

__all__ = [
    "ReadFiles",
    "WriteAside",
    "WriteFile",
    "json_line",
    "json_record",
    "read_file",
    "replacing",
]
