import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'

/** What the watching routes ask. */
export interface Health {
  /** True where the process can take work; else why not, in words without internals. */
  readonly ready: () => Promise<{ ok: boolean; reasons: string[] }>
  /** Metrics in Prometheus' text format. */
  readonly metrics?: () => Promise<string>
}

/** GET /healthz (alive), /readyz (can take work), /metrics: open to everybody who reaches the port. */
export function healthRoutes(app: FastifyInstance, health: Health): void {
  app.get('/healthz', {
    schema: { operationId: 'getHealth', tags: ['watching'], summary: 'The process is alive', response: { 200: Type.Object({ ok: Type.Boolean() }) } },
  }, () => ({ ok: true }))
  const Readiness = Type.Object({ ok: Type.Boolean(), reasons: Type.Array(Type.String()) })
  app.get('/readyz', {
    schema: {
      operationId: 'getReadiness', tags: ['watching'], summary: 'The process can take work',
      response: { 200: Readiness, 503: Readiness },
    },
  }, async (_request, reply) => {
    const readiness = await health.ready()
    return reply.code(readiness.ok ? 200 : 503).header('cache-control', 'no-store').send(readiness)
  })
  app.get('/metrics', {
    schema: { operationId: 'getMetrics', tags: ['watching'], summary: 'Metrics for Prometheus', produces: ['text/plain'] },
  }, async (_request, reply) => {
    const text = await health.metrics?.() ?? ''
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(text)
  })
}
