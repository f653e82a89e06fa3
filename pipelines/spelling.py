"""Find misspelled flags.

Beam passes unknown flags on to the runner, where a misspelled one has no effect. Not all flags of
all runners are known here, so only a flag that is close to a known one is an error.
"""

import argparse
import difflib
import logging
from collections.abc import Sequence

from beam_rnn.cli.flags import beam_parser
from beam_rnn.errors import ConfigurationError

_logger = logging.getLogger(__name__)
FLINK = (
    "allow_non_restored_state",
    "attached_mode",
    "auto_balance_write_files_sharding_enabled",
    "auto_watermark_interval",
    "checkpoint_timeout_millis",
    "checkpointing_interval",
    "checkpointing_mode",
    "disable_metrics",
    "enable_stable_input_drain",
    "execution_mode_for_batch",
    "execution_retry_delay",
    "externalized_checkpoints_enabled",
    "fail_on_checkpointing_errors",
    "faster_copy",
    "file_input_split_max_size_m_b",
    "finish_bundle_before_checkpointing",
    "flink_conf_dir",
    "flink_master",
    "force_unaligned_checkpoint_enabled",
    "job_check_interval_in_secs",
    "latency_tracking_interval",
    "max_bundle_size",
    "max_bundle_time_mills",
    "max_parallelism",
    "min_pause_between_checkpoints",
    "num_concurrent_checkpoints",
    "number_of_execution_retries",
    "object_reuse",
    "operator_chaining",
    "parallelism",
    "re_iterable_group_by_key_result",
    "report_checkpoint_duration",
    "retain_externalized_checkpoints_on_cancellation",
    "savepoint_path",
    "shutdown_sources_after_idle_ms",
    "state_backend",
    "state_backend_factory",
    "state_backend_storage_path",
    "unaligned_checkpoint_enabled",
)
"""The flags of Beam's FlinkPipelineOptions, which only the job server declares."""


def check_spelling(flags: Sequence[str], ours: argparse.ArgumentParser) -> None:
    """Check the spelling of unknown flags; warn of those that resemble no known one.

    Args:
        flags: The flags that the pipeline's own parser left over.
        ours: That parser.

    Raises:
        ConfigurationError: A flag resembles a known one; the message names that one.
    """
    names = {
        name
        for parser in (ours, beam_parser())
        for action in parser._actions  # noqa: SLF001  # argparse has no other list
        for name in action.option_strings
    } | {f"--{name}" for name in FLINK}
    for flag in flags:
        name = flag.split("=", maxsplit=1)[0]
        if name.startswith("--") and name not in names:
            near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.8)
            if near:
                raise ConfigurationError(f"there is no flag {name}: did you mean {near[0]}?")
            _logger.warning("unknown flag %s is passed to the runner", name)
