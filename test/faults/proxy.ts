import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/** Ways through the proxy, as the client sees them. */
export type Direction = 'out' | 'back'

interface Line {
  client: Socket
  server: Socket
  /** Bytes that wait, by the way they go; null where they pass at once. */
  held: Record<Direction, Buffer[] | null>
  closing: (() => void)[]
}

/**
 * A TCP proxy that can fall silent without closing anything: to either side the connection looks alive, as it does when a
 * firewall forgets it or a cable is pulled.
 */
export class TcpProxy {
  /** The address proxied, with the proxy's host and port. */
  readonly url: string
  readonly #server: Server
  readonly #target: URL
  readonly #lines = new Set<Line>()
  /** Ways in which lines made from now on are silent. */
  readonly #silent = new Set<Direction>()
  #delayMs = 0
  #trap: { text: string; sprung: () => void } | null = null

  private constructor(server: Server, target: URL) {
    this.#server = server
    this.#target = target
    const own = new URL(target)
    own.hostname = '127.0.0.1'
    own.port = String((server.address() as AddressInfo).port)
    this.url = own.href
    server.on('connection', (client: Socket) => this.#join(client))
  }

  /** Listens on loopback for connections to the host and port of `url`. */
  static async listen(url: string): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: false }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new TcpProxy(server, new URL(url))
  }

  get connections(): number {
    return this.#lines.size
  }

  /** Nothing goes through these ways any more, on lines that are and on lines to come; nothing is closed. */
  silence(...ways: Direction[]): void {
    for (const way of ways) {
      this.#silent.add(way)
      for (const line of this.#lines) line.held[way] ??= []
    }
  }

  /**
   * The next line that carries `text` to the server falls silent both ways after it, that one alone: what the server does
   * about it is done and never told, and the server is not told either when the client gives up. Resolves when that has
   * happened.
   */
  loseAnswerTo(text: string): Promise<void> {
    return new Promise((resolve) => { this.#trap = { text, sprung: resolve } })
  }

  /** Each chunk of the way out is so many milliseconds late from now on: a slow database. */
  delay(ms: number): void {
    this.#delayMs = ms
  }

  /** Lines to come pass again; those that were silent let go what they held. */
  heal(): void {
    this.#silent.clear()
    for (const line of this.#lines) {
      for (const way of ['out', 'back'] as const) {
        const held = line.held[way]
        line.held[way] = null
        for (const chunk of held ?? []) (way === 'out' ? line.server : line.client).write(chunk)
      }
      for (const close of line.closing.splice(0)) close()
    }
  }

  /** Every line ends with a reset on both sides; lines to come pass again. */
  reset(): void {
    this.#silent.clear()
    this.#trap = null
    for (const { client, server } of this.#lines) {
      client.resetAndDestroy()
      server.resetAndDestroy()
    }
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const { client, server } of this.#lines) {
      client.destroy()
      server.destroy()
    }
    await closed
  }

  #join(client: Socket): void {
    const server = connect(Number(this.#target.port || 5432), this.#target.hostname)
    const line: Line = { client, server, held: { out: this.#silent.has('out') ? [] : null, back: this.#silent.has('back') ? [] : null }, closing: [] }
    this.#lines.add(line)
    client.setNoDelay(true)
    server.setNoDelay(true)
    this.#pipe(line, 'out', client, server)
    this.#pipe(line, 'back', server, client)
  }

  #pipe(line: Line, way: Direction, from: Socket, to: Socket): void {
    from.on('data', (chunk: Buffer) => {
      const held = line.held[way]
      if (way === 'out' && this.#trap !== null && chunk.includes(this.#trap.text)) {
        line.held.back ??= []
        line.held.out ??= []
        this.#trap.sprung()
        this.#trap = null
      }
      if (held !== null) held.push(chunk)
      else if (way === 'out' && this.#delayMs > 0) setTimeout(() => to.write(chunk), this.#delayMs)
      else to.write(chunk)
    })
    from.on('error', () => undefined)
    const { client, server } = line
    from.on('close', () => {
      if (client.closed && server.closed) this.#lines.delete(line)
      // A silent way does not tell of an end either.
      const close = (): void => void to.destroy()
      if (line.held[way] === null) close()
      else line.closing.push(close)
    })
  }
}
