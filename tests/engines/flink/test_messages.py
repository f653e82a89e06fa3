"""From Kafka through `pipelines.live` on the cluster and back; the broker stops and starts."""

import json
import sys
import time

from beam_rnn.testing import oracle
from deploy.local import topics
from deploy.local.flink import STREAMING
from deploy.local.processes import Process, wait_for
from tests.engines.flink.stream import SPREAD
from tests.helpers.models import random_model, saved

NAMES = ("live-readings", "live-forecasts", "live-rejected")


def test_no_record_is_lost_while_the_broker_is_down(flink, kafka, tmp_path):
    broker, expansion = kafka
    model = random_model()
    topics.create(broker.address, *NAMES)
    source, output, rejected = (f"kafka://{broker.address}/{name}" for name in NAMES)
    command = [
        *(sys.executable, "-m", "pipelines.live", f"--weights={saved(model, tmp_path)}"),
        *(f"--input={source}?auto.offset.reset=earliest", f"--output={output}"),
        *(f"--rejected={rejected}", f"--wait={SPREAD}", "--shards=2"),
        *(f"--expansion_service={expansion.address}", "--job_name=live"),
        *(*flink.flags(), *STREAMING, "--parallelism=2"),
    ]
    sender, reader = topics.Sender(broker.address), topics.Reader(broker.address, *NAMES[1:])
    driver = Process("the driver", command, tmp_path / "driver.log")
    said = {name: [] for name in NAMES[1:]}

    def places():
        for message in reader.poll():
            said[message.topic].append(json.loads(message.value))
        return {(row["key"], row["prediction_step"]) for row in said["live-forecasts"]}

    try:
        job = wait_for("job", lambda: flink.jobs.find("live"), 90, driver)
        wait_for("checkpoint", lambda: flink.jobs.checkpoints(job)["completed"], 90, driver)
        records = []
        for number in range(300):
            if number == 100:
                wait_for("predictions", lambda: len(places()) >= 20, 90, driver)
                broker.stop()
            if number == 200:
                broker.start()
            record = {"id": f"key-{number % 5}", "t": time.time(), "x": number % 7, "y": 1}
            sender.send(NAMES[0], json.dumps(record).encode())
            records.append(record)
            time.sleep(0.02)
        sender.flush()
        wait_for("all predictions", lambda: len(places()) >= 300, 120, driver)
    finally:
        if (job := flink.jobs.find("live")) is not None:
            flink.jobs.cancel(job)
        driver.stop()
        reader.close()

    # What was written in a bundle that is done again is written again: the same.
    names = "key", "prediction_step", "time", "x_prediction"
    found = {tuple(row[name] for name in names) for row in said[NAMES[1]]}
    expected = oracle(model, records).predictions
    assert found == {(row.key, row.step, row.time, row.outputs[0]) for row in expected}
    assert len(found) == 300
    assert said[NAMES[2]] == []
    print("duplicates", len(said[NAMES[1]]) - 300)
