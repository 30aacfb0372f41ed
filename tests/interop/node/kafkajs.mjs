// kafkajs: reads in groups only. Its codecs beyond gzip come from outside.

import zlib from 'node:zlib'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import lz4 from 'lz4-napi'
import { deadline, dump, event, numbers, stopWhenStdinCloses } from './wire.mjs'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs
const RECORDS_PER_COMMIT = 500

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer)
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zlib.zstdCompressSync(encoder.buffer),
  decompress: async buffer => zlib.zstdDecompressSync(buffer)
})

const connect = bootstrap => new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING })

/** kafkajs keeps headers in an object: the values of a repeated name become an array. */
const pairs = headers =>
  Object.entries(headers ?? {}).flatMap(([name, content]) =>
    Array.isArray(content) ? content.map(each => [name, each]) : [[name, content]]
  )

export async function read(bootstrap, wanted, topics) {
  const consumer = connect(bootstrap).consumer({ groupId: `read-${process.pid}-${Date.now()}`, sessionTimeout: 10_000 })
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  let seen = 0
  deadline(() => seen)
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    const eachMessage = async ({ topic, partition, message }) => {
      dump({ ...message, topic, partition, headers: pairs(message.headers) })
      seen += 1
      if (seen === wanted) resolve()
    }
    consumer.run({ autoCommit: false, eachMessage }).catch(reject)
  })
  await consumer.disconnect()
}

export async function work(bootstrap, groupId, topic) {
  const consumer = connect(bootstrap).consumer({
    groupId,
    sessionTimeout: 6_000,
    heartbeatInterval: 300,
    maxWaitTimeInMs: 100
  })
  let owned = []
  const release = () => {
    if (owned.length > 0) event('revoked', '-', numbers(owned))
    owned = []
  }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    owned = payload.memberAssignment[topic] ?? []
    event('assigned', '-', numbers(owned))
  })
  consumer.on(consumer.events.REBALANCING, release)
  consumer.on(consumer.events.CRASH, ({ payload }) => event('refused', JSON.stringify(payload.error.message)))
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  event('started')
  const eachBatch = async ({ batch, heartbeat, isRunning, isStale }) => {
    for (let from = 0; from < batch.messages.length; from += RECORDS_PER_COMMIT) {
      if (!isRunning() || isStale()) break
      const part = batch.messages.slice(from, from + RECORDS_PER_COMMIT)
      for (const { offset } of part) event('record', batch.partition, offset)
      const offset = String(Number(part.at(-1).offset) + 1)
      await consumer.commitOffsets([{ topic, partition: batch.partition, offset }])
      await heartbeat()
    }
  }
  stopWhenStdinCloses(async () => {
    await consumer.stop()
    release()
    await consumer.disconnect()
    event('left')
    process.exit(0)
  })
  await consumer.run({ autoCommit: false, eachBatch })
}
