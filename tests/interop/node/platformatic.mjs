// @platformatic/kafka: its stream reads in groups; by hand it reads with fetch().

import { Consumer, MessagesStreamModes } from '@platformatic/kafka'
import { deadline, dump, event, numbers, stopWhenStdinCloses } from './wire.mjs'

const BYTES_PER_FETCH = 8 << 20
const RECORDS_PER_COMMIT = 500

export async function read(bootstrap, wanted, topics) {
  const consumer = new Consumer({ clientId: 'interop', groupId: 'unused', bootstrapBrokers: [bootstrap] })
  let seen = 0
  deadline(() => seen)
  const metadata = await consumer.metadata({ topics })
  const ends = await consumer.listOffsets({ topics })
  for (const [topic, { id, partitions }] of metadata.topics) {
    for (let partition = 0; partition < partitions.length; partition += 1) {
      let next = 0n
      while (next < ends.get(topic)[partition]) {
        const records = await fetchOnce(consumer, partitions[partition].leader, id, partition, next)
        for (const record of records) {
          if (record.offset < next) continue
          dump({ ...record, topic, partition })
          next = record.offset + 1n
          seen += 1
        }
      }
    }
  }
  if (seen !== wanted) throw new Error(`read ${seen} of ${wanted} records`)
  await consumer.close()
}

async function fetchOnce(consumer, node, topicId, partition, fetchOffset) {
  const response = await consumer.fetch({
    node,
    topics: [
      {
        topicId,
        partitions: [
          {
            partition,
            currentLeaderEpoch: -1,
            fetchOffset,
            lastFetchedEpoch: -1,
            partitionMaxBytes: BYTES_PER_FETCH
          }
        ]
      }
    ],
    maxWaitTime: 500,
    minBytes: 1,
    maxBytes: BYTES_PER_FETCH,
    isolationLevel: 0
  })
  const batches = response.responses.flatMap(each => each.partitions).flatMap(each => each.records ?? [])
  return batches.flatMap(batch =>
    batch.records.map(record => ({
      offset: batch.firstOffset + BigInt(record.offsetDelta),
      timestamp: batch.firstTimestamp + record.timestampDelta,
      key: record.key,
      value: record.value,
      headers: record.headers
    }))
  )
}

export async function work(bootstrap, groupId, topic, assignor) {
  const consumer = new Consumer({
    clientId: 'interop',
    groupId,
    bootstrapBrokers: [bootstrap],
    autocommit: false,
    maxWaitTime: 100,
    ...(assignor === 'consumer'
      ? { groupProtocol: 'consumer' }
      : { sessionTimeout: 6_000, rebalanceTimeout: 6_000, heartbeatInterval: 300 })
  })
  // A rejoin that is under way when the consumer closes ends in an error event, and one that nobody listens to in
  // the end of the process.
  consumer.on('error', error => event('refused', JSON.stringify(error.message)))
  const done = new Map()
  let owned = []
  // The stream does not drop what it has buffered when a partition goes, and a fetch that is under way brings more of
  // it; when a partition comes, the stream begins at its last commit. So of what it hands on, an application that is
  // to process a partition in order, and only while it owns it, has to take what is next from the last commit on and
  // nothing else; and as long as it does not know that commit, it takes nothing, so that it commits nothing either.
  // Where nothing is committed the stream does not go back at all, so the beginning is committed first.
  const position = new Map()
  const locate = async partitions => {
    partitions.forEach(partition => position.set(partition, partitions))
    while (partitions.some(partition => position.get(partition) === partitions)) {
      try {
        const committed = (await consumer.listCommittedOffsets({ topics: [{ topic, partitions }] })).get(topic)
        const offsets = partitions
          .filter(partition => committed[partition] < 0n && position.get(partition) === partitions)
          .map(partition => ({ topic, partition, offset: 0n, leaderEpoch: -1 }))
        if (offsets.length > 0) await consumer.commit({ offsets })
        for (const partition of partitions) {
          const offset = committed[partition]
          if (position.get(partition) === partitions) position.set(partition, offset > 0n ? offset : 0n)
        }
      } catch (error) {
        event('refused', JSON.stringify(error.message))
        await new Promise(resolve => setTimeout(resolve, 100))
      }
    }
  }
  const revoke = partitions => {
    partitions.forEach(partition => done.delete(partition))
    partitions.forEach(partition => position.delete(partition))
    if (partitions.length > 0) event('revoked', '-', numbers(partitions))
    owned = owned.filter(partition => !partitions.includes(partition))
  }
  const release = () => revoke(owned)
  const mine = assignments =>
    (assignments ?? []).filter(each => each.topic === topic).flatMap(each => each.partitions)
  if (assignor === 'consumer') {
    // This protocol has no event with partitions; but each change of them is followed by a heartbeat that
    // confirms it, and its event comes before it is sent.
    let joined = false
    consumer.on('consumer:heartbeat:start', () => {
      const now = mine(consumer.assignments)
      const added = now.filter(partition => !owned.includes(partition))
      revoke(owned.filter(partition => !now.includes(partition)))
      owned = now
      if (added.length > 0 || (!joined && consumer.assignments)) event('assigned', '-', numbers(added))
      if (added.length > 0) locate(added)
      joined ||= consumer.assignments !== null
    })
  } else {
    consumer.on('consumer:group:rebalance', release)
    consumer.on('consumer:group:join', ({ generationId, assignments }) => {
      owned = mine(assignments)
      event('assigned', generationId, numbers(owned))
      if (owned.length > 0) locate(owned)
    })
  }
  const stream = await consumer.consume({
    topics: [topic],
    mode: MessagesStreamModes.COMMITTED,
    fallbackMode: 'earliest'
  })
  event('started')
  let stopping = false
  stopWhenStdinCloses(async () => {
    stopping = true
    clearInterval(ticking)
    await commit()
    await stream.close()
    release()
    await consumer.close(true)
    event('left')
    process.exit(0)
  })
  let uncommitted = 0
  const commit = async () => {
    if (done.size === 0) return
    const offsets = [...done].map(([partition, offset]) => ({
      topic,
      partition,
      offset: offset + 1n,
      leaderEpoch: -1
    }))
    uncommitted = 0
    try {
      await consumer.commit({ offsets })
      for (const { partition, offset } of offsets) {
        if (done.get(partition) === offset - 1n) done.delete(partition)
      }
    } catch (error) {
      event('refused', JSON.stringify(error.message))
    }
  }
  const ticking = setInterval(commit, 100)
  for await (const { partition, offset } of stream) {
    if (position.get(partition) !== offset) continue
    position.set(partition, offset + 1n)
    event('record', partition, offset)
    done.set(partition, offset)
    uncommitted += 1
    if (uncommitted >= RECORDS_PER_COMMIT) await commit()
    if (stopping) break
  }
  clearInterval(ticking)
}
