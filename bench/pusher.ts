import { Worker } from 'node:worker_threads'
import type { Instance } from './instance.js'
import type { PrepareTask, Prepared, PushTask, Sent } from './push-task.js'

/** The pushing thread as the scenarios see it: one task at a time. */
export class Pusher {
  readonly #worker: Worker

  constructor(instance: Instance) {
    this.#worker = new Worker(new URL('./push-worker.js', import.meta.url), { workerData: { url: instance.url, key: instance.key } })
  }

  prepare(task: Omit<PrepareTask, 'kind'>): Promise<Prepared> {
    return this.#ask<Prepared>({ kind: 'prepare', ...task })
  }

  /** @throws Error where a push is refused for good, or any read was quarantined or rejected */
  async send(connections: number, keep = false): Promise<Sent> {
    const sent = await this.#ask<Sent>({ kind: 'send', connections, keep })
    if (sent.quarantined + sent.rejected > 0) {
      throw new Error(`${sent.quarantined} reads were quarantined and ${sent.rejected} rejected: the figure would mean nothing`)
    }
    return sent
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  #ask<T>(task: PushTask): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        this.#worker.off('message', onMessage)
        this.#worker.off('error', onError)
      }
      const onMessage = (answer: { value?: T; error?: string }): void => {
        done()
        if (answer.error !== undefined) reject(new Error(answer.error))
        else resolve(answer.value!)
      }
      const onError = (err: Error): void => {
        done()
        reject(err)
      }
      this.#worker.on('message', onMessage)
      this.#worker.on('error', onError)
      this.#worker.postMessage(task)
    })
  }
}
