"""aiokafka: asyncio."""

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from wire import Deadline, dump, event, numbers, stop_when_stdin_closes

RECORDS_PER_COMMIT = 500


def read(bootstrap, wanted, topics):
    asyncio.run(_read(bootstrap, wanted, topics))


async def _read(bootstrap, wanted, topics):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        check_crcs=True,
    )
    await consumer.start()
    try:
        partitions = await _partitions(bootstrap, topics)
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        seen, deadline = 0, Deadline()
        while seen < wanted:
            deadline.check(seen, wanted)
            for records in (await consumer.getmany(timeout_ms=500)).values():
                seen += len(records)
                for each in records:
                    dump(each.topic, each.partition, each.offset, each.key, each.value, each.headers, each.timestamp)
    finally:
        await consumer.stop()


async def _partitions(bootstrap, topics):
    """A consumer without a subscription knows no topics; the admin client can be asked for them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics(topics)
            for partition in topic["partitions"]
        ]
    finally:
        await admin.close()


def work(bootstrap, group, topic, assignor):
    asyncio.run(_work(bootstrap, group, topic, assignor))


async def _work(bootstrap, group, topic, assignor):
    assignors = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
    consumer = AIOKafkaConsumer(
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

    async def commit():
        if not done:
            return
        offsets = {TopicPartition(topic, partition): offset + 1 for partition, offset in done.items()}
        try:
            await consumer.commit(offsets)
            done.clear()
        except KafkaError as refusal:
            event("refused", type(refusal).__name__)

    leaving = False

    class Diary(ConsumerRebalanceListener):
        async def on_partitions_assigned(self, assigned):
            # A rebalance that ends while we leave: nothing of this will be processed.
            if leaving:
                return
            event("assigned", "-", numbers(each.partition for each in assigned))

        async def on_partitions_revoked(self, revoked):
            await commit()
            done.clear()
            event("revoked", "-", numbers(each.partition for each in revoked))

    consumer.subscribe([topic], listener=Diary())
    await consumer.start()
    event("started")
    while not stop.is_set():
        for partition, records in (await consumer.getmany(timeout_ms=100)).items():
            for each in records:
                # A batch may have been taken away while we worked on another one.
                if partition not in consumer.assignment():
                    break
                event("record", each.partition, each.offset)
                done[each.partition] = each.offset
        await commit()
    # stop() leaves the group without a call of on_partitions_revoked, and others own what was ours before it
    # returns: so we let go first.
    leaving = True
    event("revoked", "-", numbers(each.partition for each in consumer.assignment()))
    await consumer.stop()
    event("left")
