import type { AddressInfo } from 'node:net'
import { parentPort } from 'node:worker_threads'
import { SMTPServer } from 'smtp-server'

/** A mail server on a thread of its own: takes everything, keeps the Message-ID and the moment, and tells them when asked. */
const taken: [string, number][] = []
const server = new SMTPServer({
  authOptional: true, disabledCommands: ['STARTTLS', 'AUTH'], logger: false, disableReverseLookup: true,
  onData(stream, _session, done) {
    let head = ''
    stream.on('data', (chunk: Buffer) => {
      if (head.length < 4096) head += chunk.toString('latin1')
    })
    stream.on('end', () => {
      taken.push([/^Message-ID: <([0-9a-f-]+)@/mi.exec(head)?.[1] ?? '', Date.now()])
      done(null)
    })
  },
})
server.on('error', () => undefined)
server.listen(0, '127.0.0.1', () => {
  parentPort?.postMessage({ port: (server.server.address() as AddressInfo).port })
})
parentPort?.on('message', (asked: 'count' | 'take') => {
  parentPort?.postMessage(asked === 'count' ? taken.length : taken.splice(0))
})
