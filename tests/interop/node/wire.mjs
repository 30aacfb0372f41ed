// What every Node program here prints, and how it learns that it shall stop.

import { writeSync } from 'node:fs'

export const READ_MILLISECONDS_MAX = 90_000

const hexadecimal = bytes => (bytes === null || bytes === undefined ? null : Buffer.from(bytes).toString('hex'))

function put(text) {
  // A pipe may be full: writeSync then throws EAGAIN, and the rest is still ours to write.
  let rest = Buffer.from(text)
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest))
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error
    }
  }
}

/** One record as one line of JSON: the form that the Rust side compares byte for byte. */
export function dump({ topic, partition, offset, key, value, headers, timestamp }) {
  const pairs = headers.map(([name, content]) => [name.toString(), hexadecimal(content)])
  const line = {
    topic,
    partition,
    offset: Number(offset),
    key: hexadecimal(key),
    value: hexadecimal(value),
    headers: pairs,
    timestamp: Number(timestamp)
  }
  put(JSON.stringify(line) + '\n')
}

/** One line of a group member's diary: when (microseconds of the wall clock), what, and on what. */
export function event(kind, ...words) {
  const now = Math.round((performance.timeOrigin + performance.now()) * 1000)
  put(['@', now, kind, ...words].join(' ') + '\n')
}

export const numbers = partitions => [...partitions].sort((a, b) => a - b).join(',') || '-'

/** Calls `stop` once when the test closes our stdin, or dies. */
export function stopWhenStdinCloses(stop) {
  process.stdin.on('end', stop)
  process.stdin.resume()
}

/** Ends the process when records do not come. */
export function deadline(progress) {
  const timer = setTimeout(() => {
    console.error(`read ${progress()} records in ${READ_MILLISECONDS_MAX} ms`)
    process.exit(1)
  }, READ_MILLISECONDS_MAX)
  timer.unref()
}
