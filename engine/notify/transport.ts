import type { MessageView } from './render.js'

/** An image and what it says, in words. */
export interface MailChart {
  readonly png: Buffer
  readonly alt: string
  /** A sentence beneath it with the most important thing to see. */
  readonly note: string | null
}

export interface OutgoingMessage {
  readonly messageId: string
  readonly channel: 'email' | 'sms'
  readonly to: string
  readonly view: MessageView
  /** A chart to stand beside the words of a mail, as PNG. */
  readonly chart: MailChart | null
}

/**
 * To be called right before the other side could take the message; it writes that down, so that a crash after it is
 * told from one before. False: the message is not to be sent any more.
 */
export type HandOver = () => Promise<boolean>

/**
 * What came of one attempt. `retry`: certainly not taken, for now. `failed`: refused for good. `unknown`: handed over
 * without an answer, so that sending it again could tell somebody twice. `withdrawn`: the hand-over was called off.
 * `reason` goes into logs and the database: no addresses.
 */
export type SendOutcome =
  | { readonly state: 'sent' | 'captured' | 'withdrawn' }
  | { readonly state: 'retry' | 'unknown'; readonly reason: string }
  /** `bounced`: it is the address that was refused, not this message. */
  | { readonly state: 'failed'; readonly reason: string; readonly bounced?: boolean }

/** Sends messages; never throws for what a server answers. */
export interface Transport {
  send(message: OutgoingMessage, handOver: HandOver, signal: AbortSignal): Promise<SendOutcome>
  /** Ends kept connections; sends that are under way end first. */
  close(): void
}

/** Keeps messages in the database instead of sending them, for installations without a mail or SMS server. */
export const captureTransport: Transport = {
  async send(_message, handOver) {
    return { state: await handOver() ? 'captured' : 'withdrawn' }
  },
  close() {
    // Nothing is kept open.
  },
}

/** One transport for each channel. */
export function byChannel(transports: Readonly<Record<OutgoingMessage['channel'], Transport>>): Transport {
  return {
    send: (message, handOver, signal) => transports[message.channel].send(message, handOver, signal),
    close() {
      transports.email.close()
      transports.sms.close()
    },
  }
}
