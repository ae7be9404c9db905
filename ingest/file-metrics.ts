import { Counter, Gauge, type Registry } from 'prom-client'

/** Metrics of the file drop. */
export class FileMetrics {
  readonly #files: Counter<'outcome'>
  readonly #waiting: Gauge
  readonly #oldest: Gauge

  constructor(registry: Registry) {
    const registers = [registry]
    this.#files = new Counter({
      name: 'meterline_files_total', help: 'Files of the watched folder: done, failed, or waited (for memory or the database, and tried again)',
      labelNames: ['outcome'], registers })
    this.#waiting = new Gauge({ name: 'meterline_files_waiting', help: 'Files in incoming/ when it was last looked through', registers })
    this.#oldest = new Gauge({ name: 'meterline_files_oldest_seconds', help: 'Age of the oldest file in incoming/', registers })
  }

  settled(outcome: 'done' | 'failed' | 'waited'): void {
    this.#files.inc({ outcome })
  }

  waiting(files: number, oldestS: number): void {
    this.#waiting.set(files)
    this.#oldest.set(files === 0 ? 0 : oldestS)
  }
}
