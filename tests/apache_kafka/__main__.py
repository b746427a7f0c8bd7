"""`python -m tests.apache_kafka`: brokers of Apache Kafka for use by hand, until Ctrl-C."""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests.apache_kafka.artifacts import KafkaMissing
from tests.apache_kafka.cluster import BrokerFailed, Cluster

EXIT_FAILED = 1


def main() -> int:
    """Starts, says where, waits for SIGINT or SIGTERM, and leaves nothing behind."""
    parser = argparse.ArgumentParser(prog="python -m tests.apache_kafka", description=__doc__)
    parser.add_argument("--brokers", type=int, default=1, choices=range(1, 8), help="how many (default 1)")
    parser.add_argument("--port", type=int, default=9092, help="of the first; 0 for any free (default 9092)")
    parser.add_argument("--secure", action="store_true", help="add a listener with TLS, SCRAM and ACLs")
    options = parser.parse_args()
    wanted = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    with tempfile.TemporaryDirectory(prefix="apache-kafka-") as name:
        cluster = Cluster(Path(name), options.brokers, port=options.port, secure=options.secure)
        try:
            cluster.start()
            ready = {"ready": True, "bootstrap_servers": cluster.bootstrap_servers, "pids": cluster.pids}
            if cluster.security is not None:
                ready["secure_servers"] = cluster.secure_servers
                ready["ca_file"] = str(cluster.security.ca_file)
                ready["username"] = cluster.security.username
            print(json.dumps(ready), flush=True)
            signal.sigwait(wanted)
        except (KafkaMissing, BrokerFailed) as problem:
            print(problem, file=sys.stderr)
            return EXIT_FAILED
        finally:
            cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
