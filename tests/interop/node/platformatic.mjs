// @platformatic/kafka: its stream reads in groups; by hand it reads with fetch().

import { Consumer, MessagesStreamModes } from '@platformatic/kafka'
import { deadline, dump, event, numbers, stopWhenStdinCloses } from './wire.mjs'

const BYTES_PER_FETCH = 8 << 20
const RECORDS_PER_COMMIT = 500
// Before the commit of a partition is asked for once more.
const GAP_MILLISECONDS = 100

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
  let uncommitted = 0
  // The stream does not drop what it has buffered when a partition goes, and a fetch that is under way brings more of
  // it; when a partition comes, the stream begins at its last commit. So of what it hands on, an application that is
  // to process a partition in order, and only while it owns it, has to take what is next from the last commit on.
  // Until it knows that commit, what comes waits, since the stream hands nothing on twice; so does what comes after a
  // gap, and the commit is asked for again: whoever had the partition before may have committed meanwhile. What it
  // hands on of a partition that is not owned, or just went, waits as well: when the partition comes back to the same
  // member, the stream may go on behind it. Where
  // nothing is committed the stream does not go back at all, so the beginning is committed first.
  const held = new Map()
  const strays = new Map()
  let stopping = false
  const drain = (partition, mine) => {
    if (mine.next === null || stopping) return
    while (mine.waiting.delete(mine.next)) {
      event('record', partition, mine.next)
      done.set(partition, mine.next)
      mine.next += 1n
      uncommitted += 1
    }
    for (const offset of mine.waiting) {
      if (offset < mine.next) mine.waiting.delete(offset)
    }
    if (mine.waiting.size > 0 && !mine.asking) {
      mine.asking = true
      setTimeout(ask, GAP_MILLISECONDS, [[partition, mine]])
    }
  }
  const take = (partition, offset) => {
    const mine = held.get(partition)
    if (mine === undefined) {
      if (!strays.has(partition)) strays.set(partition, new Set())
      strays.get(partition).add(offset)
      return
    }
    mine.waiting.add(offset)
    drain(partition, mine)
  }
  const isHeld = ([partition, mine]) => held.get(partition) === mine
  const ask = async asked => {
    let left = asked.filter(isHeld)
    while (left.length > 0) {
      try {
        const partitions = left.map(([partition]) => partition)
        const committed = (await consumer.listCommittedOffsets({ topics: [{ topic, partitions }] })).get(topic)
        const unset = left.filter(each => isHeld(each) && committed[each[0]] < 0n)
        const offsets = unset.map(([partition]) => ({ topic, partition, offset: 0n, leaderEpoch: -1 }))
        if (offsets.length > 0) await consumer.commit({ offsets })
        for (const [partition, mine] of left.filter(isHeld)) {
          const offset = committed[partition] > 0n ? committed[partition] : 0n
          if (mine.next === null || mine.next < offset) mine.next = offset
          mine.asking = false
          drain(partition, mine)
        }
        return
      } catch (error) {
        event('refused', JSON.stringify(error.message))
        await new Promise(resolve => setTimeout(resolve, 100))
        left = left.filter(isHeld)
      }
    }
  }
  const hold = partitions => {
    const waiting = partition => held.get(partition)?.waiting ?? strays.get(partition) ?? new Set()
    const asked = partitions.map(partition => [partition, { next: null, waiting: waiting(partition), asking: true }])
    partitions.forEach(partition => strays.delete(partition))
    asked.forEach(([partition, mine]) => held.set(partition, mine))
    ask(asked)
  }
  const revoke = partitions => {
    partitions.forEach(partition => done.delete(partition))
    for (const partition of partitions) {
      const mine = held.get(partition)
      if (mine !== undefined) strays.set(partition, mine.waiting)
      held.delete(partition)
    }
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
      if (added.length > 0) hold(added)
      joined ||= consumer.assignments !== null
    })
  } else {
    consumer.on('consumer:group:rebalance', release)
    consumer.on('consumer:group:join', ({ generationId, assignments }) => {
      owned = mine(assignments)
      event('assigned', generationId, numbers(owned))
      if (owned.length > 0) hold(owned)
    })
  }
  const stream = await consumer.consume({
    topics: [topic],
    mode: MessagesStreamModes.COMMITTED,
    fallbackMode: 'earliest'
  })
  event('started')
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
    take(partition, offset)
    if (uncommitted >= RECORDS_PER_COMMIT) await commit()
    if (stopping) break
  }
  clearInterval(ticking)
}
