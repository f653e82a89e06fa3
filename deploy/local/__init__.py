"""Real engines on this machine: a Flink cluster, a Kafka broker, and workers for Beam's SDKs.

`make engines` downloads them into the folder that the variable ENGINES names.
"""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINES = Path(os.environ.get("ENGINES", ROOT / ".engines")).absolute()
