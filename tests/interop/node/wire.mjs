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

// The wall clock in nanoseconds, less the clock that hrtime counts by: both are read together, and anew until they were
// read within 50 microseconds. performance.timeOrigin is not that careful: on a busy machine it is off by a millisecond
// now and then, so that one member seems to act after another one that it in fact made way for.
function clockOffset() {
  for (;;) {
    const wall = Date.now()
    let before
    let now = wall
    while (now === wall) {
      before = process.hrtime.bigint()
      now = Date.now()
    }
    const after = process.hrtime.bigint()
    if (now === wall + 1 && after - before < 50_000n) return BigInt(now) * 1_000_000n - after
  }
}

const offset = clockOffset()

/** One line of a group member's diary: when (microseconds of the wall clock), what, and on what. */
export function event(kind, ...words) {
  const now = (offset + process.hrtime.bigint()) / 1_000n
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
