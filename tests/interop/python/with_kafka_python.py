"""kafka-python: pure Python."""

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from wire import Deadline, dump, event, numbers, stop_when_stdin_closes

RECORDS_PER_COMMIT = 500


def read(bootstrap, wanted, topics):
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        check_crcs=True,
    )
    partitions = [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in consumer.partitions_for_topic(topic)
    ]
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, 0)
    seen, deadline = 0, Deadline()
    while seen < wanted:
        deadline.check(seen, wanted)
        for records in consumer.poll(timeout_ms=500).values():
            seen += len(records)
            for each in records:
                dump(each.topic, each.partition, each.offset, each.key, each.value, each.headers, each.timestamp)
    consumer.close()


def work(bootstrap, group, topic, assignor):
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

    assignors = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6000,
        heartbeat_interval_ms=300,
        max_poll_records=RECORDS_PER_COMMIT,
        partition_assignment_strategy=[assignors[assignor]],
    )
    stop = stop_when_stdin_closes()
    done = {}

    def commit():
        if not done:
            return
        offsets = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset + 1, "", -1)
            for partition, offset in done.items()
        }
        try:
            consumer.commit(offsets)
            done.clear()
        except KafkaError as refusal:
            event("refused", type(refusal).__name__)

    class Diary(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned):
            event("assigned", "-", numbers(each.partition for each in assigned))

        def on_partitions_revoked(self, revoked):
            commit()
            done.clear()
            event("revoked", "-", numbers(each.partition for each in revoked))

        def on_partitions_lost(self, lost):
            done.clear()
            event("lost", "-", numbers(each.partition for each in lost))

    consumer.subscribe([topic], listener=Diary())
    event("started")
    while not stop.is_set():
        for records in consumer.poll(timeout_ms=100).values():
            for each in records:
                event("record", each.partition, each.offset)
                done[each.partition] = each.offset
        commit()
    consumer.close()
    event("left")
