import type { FastifyInstance } from 'fastify'
import { Histogram, type Registry } from 'prom-client'

/** Seconds of calls by the route's operation and the class of the answer: closed sets, whatever callers ask for. */
export function measureCalls(app: FastifyInstance, registry: Registry): void {
  const seconds = new Histogram({
    name: 'meterline_api_request_seconds', help: 'Calls, from their arrival to the end of the answer',
    labelNames: ['operation', 'status'], registers: [registry],
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })
  app.addHook('onResponse', async (request, reply) => {
    seconds.observe({ operation: request.routeOptions.schema?.operationId ?? 'unknown', status: `${Math.floor(reply.statusCode / 100)}xx` }, reply.elapsedTime / 1000)
  })
}
