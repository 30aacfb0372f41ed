"""python main.py <client> read <bootstrap> <records> <topic>...
python main.py <client> work <bootstrap> <group> <topic> <assignor>"""

import importlib
import sys

CLIENTS = {
    "confluent-kafka": "with_confluent_kafka",
    "kafka-python": "with_kafka_python",
    "aiokafka": "with_aiokafka",
}


def main():
    client, verb, *rest = sys.argv[1:]
    module = importlib.import_module(CLIENTS[client])
    if verb == "read":
        bootstrap, records, *topics = rest
        module.read(bootstrap, int(records), topics)
    elif verb == "work":
        module.work(*rest)
    else:
        sys.exit(__doc__)
    sys.stdout.flush()


main()
