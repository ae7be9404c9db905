import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import type { Edit } from '../engine/estimate/edit.js'
import type { Receipt } from '../engine/receipt.js'
import type { Pool } from '../engine/store/db.js'
import type { ReadSource } from '../engine/store/replica.js'

export type Role = 'head-end' | 'portal' | 'notify' | 'viewer' | 'operator'

/** Who is calling, as the Authorization header proved it. */
export interface Principal {
  /** `key:<name>` or `member:<subject>`: what audit rows and logs name. */
  readonly actor: string
  readonly role: Role | 'member'
  readonly utilityId: number
  /** The utility's public id. */
  readonly utility: string
  /** An operator of the installation may make utilities. */
  readonly installation: boolean
  /** Sources a head-end key may push for; empty: the one named like the key. */
  readonly sources: readonly string[]
  /** Name of the key: the default source. */
  readonly name: string
  /** Accounts (public ids) that a member token reaches; null for keys. */
  readonly accounts: ReadonlySet<string> | null
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the auth hook for every /v1 route. */
    principal: Principal
  }
  interface FastifyContextConfig {
    /** Roles that may call the route; `operator` always may. Every /v1 route declares it: closed by default. */
    roles?: readonly Role[]
    /** True where a member token may call it too; the handler then checks accounts by api/guards.ts. */
    member?: boolean
    /** True where only an operator of the whole installation may call it. */
    installation?: boolean
    /** Codes of problems beyond the common ones, for the API's description. */
    problems?: readonly string[]
    /** Bodies of a route that reads them raw, by content type: described in the API document, not checked by it. */
    describedBody?: Readonly<Record<string, object>>
  }
}

/** Which quarantined records a replay takes; all members narrow. */
export interface QuarantineFilter {
  readonly reason?: string
  readonly source?: string
  readonly meter?: string
}

/** A foreign issuer of member tokens and operators' tokens (JWKS_URL, JWT_ISSUER, JWT_AUDIENCE). */
export interface TokenIssuer {
  readonly jwksUrl: string
  readonly issuer: string
  readonly audience: string
  /** Claim with the accounts' public ids; default `accounts`. */
  readonly accountsClaim?: string
  /** Claim with the utility's public id; default `utility`. */
  readonly utilityClaim?: string
}

/** What every route module is given. */
export interface ApiContext {
  /** Writes, and reads that must see the newest commit. */
  readonly pool: Pool
  /** Queries of usage: the same pool unless DATABASE_READ_URL is set, and then a replica that has every commit. */
  readonly readPool: ReadSource
  readonly log: Logger
  /** 32 bytes from SECRET_KEY: seals contact addresses and messages, signs member tokens. */
  readonly secretKey: Buffer
  /** Milliseconds since the epoch; a test may freeze it. */
  readonly now: () => number
  /** Told after a registry write committed: quarantined reads of these meters may settle now. */
  readonly onMetersRegistered: (utilityId: number) => void
  /** Told after messages were written: the outbox need not wait for its next poll. */
  readonly onMessages: () => void
  /** Settles quarantined reads again; absent in a process without ingest. */
  readonly replayQuarantine?: (utilityId: number, filter: QuarantineFilter) => Promise<Receipt>
  /** Takes a wrong delivery back; absent in a process without ingest. */
  readonly withdraw?: (utilityId: number, deliveryId: string) => Promise<Receipt>
  /** How texts of members are taken: by the gateway's signature under its token. Absent: they are not. */
  readonly smsGateway?: { readonly token: string; readonly publicUrl: string; readonly stopScope: 'category' | 'all' }
  /** Puts reads that validation flagged right; absent in a process without ingest. */
  readonly edit?: (edit: Edit) => Promise<Receipt>
  /** Present where tokens of another issuer are accepted beside our own. */
  readonly issuer?: TokenIssuer
}

/** Each file in api/routes exports one of these. */
export type RouteModule = (app: FastifyInstance, context: ApiContext) => void
