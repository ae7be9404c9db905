import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { buildServer } from '../api/server.js'
import type { ApiContext } from '../api/context.js'
import { apiRoutes, openRoutes } from '../api/routes/index.js'
import { authenticateHeadEnd } from '../api/auth.js'
import { multispeakRoute } from '../api/routes/multispeak.js'
import { pushRoute } from '../api/routes/reads.js'
import type { Settings } from '../engine/config.js'
import { uuidv7 } from '../engine/uuid.js'
import { FileMetrics } from '../ingest/file-metrics.js'
import { FileDrop } from '../ingest/files.js'
import { registerPushDoor } from '../ingest/http.js'
import { openKafkaDoor, type KafkaDoor } from '../ingest/kafka.js'
import { registerMultiSpeakDoor } from '../ingest/multispeak-door.js'
import { startJudging } from './judging.js'
import { startValidating } from './validating.js'
import { startMaintenance } from './maintenance.js'
import { startNotifier, type Notifier } from './notify.js'
import { openReplica } from './replica.js'
import { readiness } from './readiness.js'
import { openDatabase, openLog, openMetrics, startIngest, type Database } from './runtime.js'
import { stateMetrics } from './state-metrics.js'

export const ROLES = ['ingest', 'api', 'notify', 'console'] as const
export type ServeRole = (typeof ROLES)[number]

/** A running engine. */
export interface Engine {
  app: FastifyInstance
  database: Database
  log: Logger
  /** Base URL of the HTTP server. */
  url: string
  /** Stops intake, settles what was accepted, sends what is under way, then closes the database, in that order. */
  close: () => Promise<void>
}

/**
 * Starts the engine in the roles given and listens.
 *
 * @param clockOffsetMs added to the system's clock by everything that takes in, judges, tells and answers: for tests that
 *   live through an evening
 * @throws Error naming the port where it is taken
 */
export async function startEngine(
  settings: Settings, roles: ReadonlySet<ServeRole>, log: Logger = openLog(settings), clockOffsetMs = 0,
): Promise<Engine> {
  const database = await openDatabase(settings, log)
  try {
    return await startOn(settings, roles, log, database, clockOffsetMs)
  } catch (err) {
    await database.close()
    throw err
  }
}

async function startOn(
  settings: Settings, roles: ReadonlySet<ServeRole>, log: Logger, database: Database, clockOffsetMs: number,
): Promise<Engine> {
  const now = (): number => Date.now() + clockOffsetMs
  const metrics = openMetrics()
  let notifier: Notifier | null = null
  let judging: ReturnType<typeof startJudging> | null = null
  const wake = (): void => notifier?.wake()
  const statedUrl = settings.publicUrl?.replace(/\/+$/, '') ?? null
  let publicUrl = statedUrl
  const ingest = roles.has('ingest') ? startIngest(settings, database, log, metrics, wake, clockOffsetMs) : null
  const files = ingest === null || settings.watchDir === null ? null : new FileDrop({
    pool: ingest.pool, metrics: ingest.metrics, ...ingest.limits, versions: ingest.versions, folder: settings.watchDir, db: database.pool, log,
    files: new FileMetrics(metrics), now, stableMs: settings.watchStableSeconds * 1000, pollMs: settings.watchPollSeconds * 1000,
  })
  const validating = ingest === null ? null : startValidating(database.pool, ingest.pool, log)
  const maintenance = startMaintenance(settings, database.pool, database.storage, ingest?.pool ?? null, log, now)
  if (roles.has('notify')) {
    notifier = startNotifier(settings, database, log, metrics, () => publicUrl, now)
    judging = startJudging(database.pool, log, {
      secrets: { secretKey: database.secretKey }, settleS: settings.alertSettleHours * 3600, now }, wake)
  }
  const replica = openReplica(settings, database, log, metrics)
  const look = roles.has('api') ? stateMetrics(metrics, database.pool, database.storage, log, now) : null
  const context: ApiContext = {
    pool: database.pool, readPool: replica?.source ?? database.pool, log, secretKey: database.secretKey, now, onMessages: wake,
    onMetersRegistered: maintenance.sweep,
    ...(ingest === null ? {} : {
      replayQuarantine: (utilityId, filter) => ingest.pool.replay({
        utilityId, deliveryId: uuidv7(now()), reason: filter.reason ?? null, source: filter.source ?? null,
        meter: filter.meter ?? null, onlyRegistered: false }),
      edit: (edit) => ingest.pool.edit(edit),
      withdraw: (utilityId, deliveryId) => ingest.pool.withdraw({ utilityId, deliveryId, withdrawalId: uuidv7(now()) }),
    }),
    ...(settings.smsToken === null || statedUrl === null ? {} : {
      smsGateway: { token: settings.smsToken, publicUrl: statedUrl, stopScope: settings.smsStopScope } }),
    ...(settings.jwksUrl === null ? {} : {
      issuer: {
        jwksUrl: settings.jwksUrl, issuer: settings.jwtIssuer ?? '', audience: settings.jwtAudience ?? '',
        accountsClaim: settings.jwtAccountsClaim, utilityClaim: settings.jwtUtilityClaim },
    }),
  }
  let kafka: KafkaDoor | null = null
  let stopping = false
  /** Ends everything but the database, in the order of the way of a read. */
  const stopWork = async (): Promise<void> => {
    await kafka?.close()
    await maintenance.stop()
    await files?.stop()
    await validating?.stop()
    await ingest?.pool.close()
    await judging?.stop()
    await notifier?.stop()
    await replica?.close()
  }
  if (ingest !== null && settings.kafkaBrokers.length > 0) {
    try {
      kafka = await openKafkaDoor({
        settings, pool: ingest.pool, db: database.pool, versions: ingest.versions, registry: metrics, log, defaultUtility: settings.kafkaUtility,
        rounds: settings.workers * 2, maxHeldBytes: settings.maxInflightMb * 1024 * 1024 / 2,
      })
    } catch (err) {
      await stopWork()
      throw err
    }
  }
  const app = buildServer(context, {
    routes: roles.has('api') ? apiRoutes : [],
    bodyRoutes: ingest === null ? [] : [(scope) => registerPushDoor(scope, {
      pool: ingest.pool, metrics: ingest.metrics, ...ingest.limits, versions: ingest.versions, now, route: pushRoute })],
    openRoutes: [...roles.has('api') ? openRoutes : [], ...ingest === null ? [] : [(scope: FastifyInstance) => registerMultiSpeakDoor(scope, {
      pool: ingest.pool, metrics: ingest.metrics, ...ingest.limits, versions: ingest.versions, now, route: multispeakRoute,
      authenticate: (authorization) => authenticateHeadEnd(scope.authenticator, authorization) })]],
    metrics: async () => {
      await look?.()
      return metrics.metrics()
    },
    registry: metrics,
    ready: async () => {
      const { ok, reasons } = await readiness(database.pool, ingest?.pool ?? null, stopping)
      // A partition that stands still, or a broker that is away, does not keep the rest from being done.
      return { ok, reasons: [...reasons, ...kafka?.reasons() ?? []] }
    },
  })
  try {
    await app.listen({ host: settings.host, port: settings.port })
  } catch (err) {
    await app.close()
    await stopWork()
    if ((err as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new Error(`PORT ${settings.port} on ${settings.host} is taken by another program: stop it, or set PORT to a free one`, { cause: err })
    }
    throw err
  }
  try {
    await files?.start()
  } catch (err) {
    await app.close()
    await stopWork()
    throw new Error(`WATCH_DIR ${settings.watchDir} cannot be used: ${err instanceof Error ? err.message : String(err)}`, { cause: err })
  }
  const address = app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : settings.port
  const host = settings.host === '0.0.0.0' || settings.host === '::' ? '127.0.0.1' : settings.host
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`
  publicUrl ??= url
  return {
    app, database, log, url,
    close: async () => {
      stopping = true
      // A sender that stalls, or never ends, must not keep the rest from being closed in order.
      const cut = setTimeout(() => app.server.closeAllConnections(), settings.shutdownSeconds * 500)
      await app.close()
      clearTimeout(cut)
      await stopWork()
      await database.close()
    },
  }
}

/** `meterline serve`: runs until a signal, then drains within SHUTDOWN_SECONDS. */
export async function serve(settings: Settings, roles: ReadonlySet<ServeRole>): Promise<void> {
  const engine = await startEngine(settings, roles)
  if (engine.database.firstKey !== null) {
    process.stdout.write(`operator key (shown once, kept in ${settings.meterlineDir}/operator-key): ${engine.database.firstKey}\n`)
  }
  engine.log.info({ url: engine.url, roles: [...roles] }, 'serving')
  untilStopped(settings, engine)
}

/** Closes the engine on SIGINT, SIGTERM or a fault, within SHUTDOWN_SECONDS. */
export function untilStopped(settings: Settings, engine: Engine): void {
  closeWithGrace({ delay: settings.shutdownSeconds * 1000, logger: false }, async ({ err, signal }) => {
    if (err !== undefined) engine.log.fatal({ err }, 'stopping after a fault')
    else engine.log.info({ signal }, 'stopping')
    await engine.close()
  })
}
