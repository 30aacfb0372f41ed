"""confluent-kafka: librdkafka under Python."""

import sys
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from wire import Deadline, dump, event, numbers, stop_when_stdin_closes

RECORDS_PER_COMMIT = 500


def read(bootstrap, wanted, topics):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused: partitions are assigned by hand",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
        }
    )
    known = consumer.list_topics(timeout=30).topics
    consumer.assign(
        [TopicPartition(topic, partition, 0) for topic in topics for partition in known[topic].partitions]
    )
    seen, deadline = 0, Deadline()
    while seen < wanted:
        deadline.check(seen, wanted)
        for message in consumer.consume(500, timeout=0.5):
            if message.error():
                raise KafkaException(message.error())
            seen += 1
            dump(
                message.topic(),
                message.partition(),
                message.offset(),
                message.key(),
                message.value(),
                message.headers(),
                message.timestamp()[1],
            )
    consumer.close()


def work(bootstrap, group, topic, assignor):
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "topic.metadata.refresh.interval.ms": 1000,
    }
    if assignor == "consumer":
        settings["group.protocol"] = "consumer"
    else:
        settings |= {
            "partition.assignment.strategy": assignor,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 300,
        }
    consumer = Consumer(settings)
    stop = stop_when_stdin_closes()
    done = {}

    def commit():
        if not done:
            return
        offsets = [TopicPartition(topic, partition, offset + 1) for partition, offset in done.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
            done.clear()
        except KafkaException as refusal:
            # Kept: a commit in the middle of a rebalance is refused, and due again after it.
            event("refused", refusal.args[0].name())

    def forget(partitions):
        for each in partitions:
            done.pop(each.partition, None)

    def assigned(_, partitions):
        event("assigned", "-", numbers(each.partition for each in partitions))

    def revoked(_, partitions):
        commit()
        forget(partitions)
        event("revoked", "-", numbers(each.partition for each in partitions))

    def lost(_, partitions):
        forget(partitions)
        event("lost", "-", numbers(each.partition for each in partitions))

    consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
    event("started")
    while not stop.is_set():
        for message in consumer.consume(RECORDS_PER_COMMIT, timeout=0.1):
            if message.error():
                if message.error().fatal():
                    raise KafkaException(message.error())
                print(time.time(), message.error(), file=sys.stderr)
                continue
            event("record", message.partition(), message.offset())
            done[message.partition()] = message.offset()
        commit()
    consumer.close()
    event("left")
