import { text } from 'node:stream/consumers'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import { SMTPServer } from 'smtp-server'

export interface ReceivedMail {
  to: string
  messageId: string
  content: string
}

/** What the server does with a message: a reply code refuses at that stage. */
export interface MailBehaviour {
  /** Reply code to RCPT TO. */
  rcpt?: number
  /** Reply code after the whole message arrived. */
  data?: number
  /** After the whole message arrived: no answer at all, or the connection is cut. */
  end?: 'hang' | 'cut'
  /** Called at RCPT TO, before it is answered: the message has not been handed over yet. */
  onRcpt?: () => Promise<void>
  /** Called when the whole message arrived, before it is answered. */
  onData?: () => Promise<void>
}

export interface MailServer {
  readonly url: string
  readonly received: ReceivedMail[]
  behaviour: MailBehaviour
  close(): Promise<void>
}

/** A real SMTP server on loopback. */
export async function mailServer(): Promise<MailServer> {
  const received: ReceivedMail[] = []
  const sockets = new Set<Socket>()
  const state: { behaviour: MailBehaviour } = { behaviour: {} }
  const refuse = (code: number): Error => Object.assign(new Error('5.1.1 refused for <someone@example.com>'), { responseCode: code })
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS', 'AUTH'],
    logger: false,
    onRcptTo(_address, _session, done) {
      const { rcpt, onRcpt } = state.behaviour
      void (onRcpt?.() ?? Promise.resolve()).then(() => done(rcpt === undefined ? null : refuse(rcpt)))
    },
    onData(stream, session, done) {
      const { data, end, onData } = state.behaviour
      void text(stream).then(async (content) => {
        await onData?.()
        const to = session.envelope.rcptTo[0].address
        if (data === undefined) received.push({ to, content, messageId: /^Message-ID: (.*)$/mi.exec(content)?.[1].trim() ?? '' })
        if (end === 'hang') return
        if (end === 'cut') for (const socket of sockets) socket.destroy()
        else done(data === undefined ? null : refuse(data))
      }).catch(() => {
        // The client broke off within the message: it is not received.
      })
    },
  })
  server.server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.on('error', () => undefined)
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', () => ready())
  })
  const { port } = server.server.address() as AddressInfo
  return {
    url: `smtp://127.0.0.1:${port}`,
    received,
    get behaviour() {
      return state.behaviour
    },
    set behaviour(value) {
      state.behaviour = value
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((closed) => {
        server.close(() => closed())
      })
    },
  }
}

/** A server that takes connections and never says a word. */
export async function silentServer(): Promise<{ url: string; close(): Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', () => ready())
  })
  return {
    url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((closed) => {
        server.close(() => closed())
      })
    },
  }
}
