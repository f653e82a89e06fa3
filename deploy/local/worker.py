"""Start a worker of Beam's Python or Java SDK for a runner, like the boot program of its image.

A runner's PROCESS environment calls `command(...)` with the addresses of its services. The worker
runs in this Python environment: nothing is staged, so everything that a pipeline uses must be
importable here.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

import grpc
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format

from deploy.local import ENGINES, ROOT
from deploy.local.jars import JOB_SERVER, QUICK_START, java


def command(folder: Path, sdk: str) -> str:
    """Write a program that starts a worker; return the value of --environment_config."""
    path = folder / f"worker-{sdk}.sh"
    environment = [f"ENGINES={ENGINES}", f"PYTHONPATH={ROOT}"]
    program = [sys.executable, "-m", "deploy.local.worker", sdk]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(["env", *environment, *program])} "$@"\n')
    path.chmod(0o755)
    return json.dumps({"command": str(path)})


def main() -> None:
    """Ask the runner for the worker's settings, and run the worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sdk", choices=("python", "java"))
    for name in ("id", "logging_endpoint", "control_endpoint", "provision_endpoint"):
        parser.add_argument(f"--{name}", default="")
    args, _ = parser.parse_known_args()
    channel = grpc.insecure_channel(args.provision_endpoint)
    service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
    request = beam_provision_api_pb2.GetProvisionInfoRequest()
    info = service.GetProvisionInfo(request, metadata=(("worker_id", args.id),)).info

    def descriptor(url: str) -> str:
        return text_format.MessageToString(
            endpoints_pb2.ApiServiceDescriptor(url=url), as_one_line=True
        )

    os.environ.update(
        PIPELINE_OPTIONS=json_format.MessageToJson(info.pipeline_options),
        WORKER_ID=args.id,
        HARNESS_ID=args.id,
        LOGGING_API_SERVICE_DESCRIPTOR=descriptor(
            info.logging_endpoint.url or args.logging_endpoint
        ),
        CONTROL_API_SERVICE_DESCRIPTOR=descriptor(
            info.control_endpoint.url or args.control_endpoint
        ),
        RUNNER_CAPABILITIES=" ".join(info.runner_capabilities),
    )
    channel.close()
    if args.sdk == "java":
        program = java(
            "org.apache.beam.fn.harness.FnHarness", str(JOB_SERVER), heap=300, options=QUICK_START
        )
        os.execvp(program[0], program)  # noqa: S606  # replaces this process
    sdk_worker_main.main([])


if __name__ == "__main__":
    main()
