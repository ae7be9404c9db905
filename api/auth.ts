import { hkdfSync, randomUUID } from 'node:crypto'
import type { FastifyContextConfig, FastifyInstance } from 'fastify'
import { SignJWT, createRemoteJWKSet, decodeJwt, errors, jwtVerify, type JWTPayload } from 'jose'
import { findKey, hashKey, type FoundKey } from '../engine/access.js'
import { ApiError } from '../engine/problem.js'
import { isUnavailable } from '../engine/store/db.js'
import { findUtility } from '../engine/utilities.js'
import type { ApiContext, Principal } from './context.js'

/** Name of this program as the issuer and audience of the tokens that it mints. */
const ISSUER = 'meterline'
/** A revoked key works no longer than this, milliseconds. */
const KEY_CACHE_MS = 5000
const MAX_CACHED_KEYS = 10_000
/** Of a foreign issuer only signatures that need a private key are taken, whatever a token's header says. */
const FOREIGN_ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA']
const MAX_TOKEN_ACCOUNTS = 1000

interface CachedKey {
  principal: Principal
  untilMs: number
}

/** Tells who is calling by the Authorization header. */
export class Authenticator {
  readonly #context: ApiContext
  readonly #keys = new Map<string, CachedKey>()
  readonly #secret: Uint8Array
  readonly #foreignKeys: ReturnType<typeof createRemoteJWKSet> | undefined

  constructor(context: ApiContext) {
    this.#context = context
    this.#secret = new Uint8Array(hkdfSync('sha256', context.secretKey, '', 'meterline member token', 32))
    this.#foreignKeys = context.issuer === undefined ? undefined : createRemoteJWKSet(new URL(context.issuer.jwksUrl))
  }

  /** @throws ApiError 401 `missing-credentials` or `invalid-credentials` */
  async authenticate(header: string | undefined): Promise<Principal> {
    const credential = /^Bearer +(\S+) *$/i.exec(header ?? '')?.[1]
    if (credential === undefined) {
      throw new ApiError(401, 'missing-credentials', 'The call needs a key or a token.',
        { help: 'Send "Authorization: Bearer <key>"; meterline key create makes one.' })
    }
    return credential.startsWith('mk_') ? this.#byKey(credential) : this.#byToken(credential)
  }

  /** Forgets cached keys: a key that this process revoked stops at once. */
  forget(): void {
    this.#keys.clear()
  }

  /**
   * A token that reaches these accounts alone.
   * @param ttlSeconds seconds until it ends
   * @throws ApiError 422 `unknown-account`
   */
  async mint(principal: Principal, accounts: readonly string[], ttlSeconds: number): Promise<{ token: string; expiresAt: string }> {
    const wanted = [...new Set(accounts)]
    const { rows } = await this.#context.pool.query<{ id: string }>(
      'select id from account where utility_id = $1 and id = any($2::text[])', [principal.utilityId, wanted])
    const known = new Set(rows.map((r) => r.id))
    const missing = wanted.findIndex((id) => !known.has(id))
    if (missing >= 0) throw new ApiError(422, 'unknown-account', 'There is no such account.', { at: `/accounts/${accounts.indexOf(wanted[missing])}` })
    const nowS = Math.floor(this.#context.now() / 1000)
    const token = await new SignJWT({ utility: principal.utility, accounts: wanted })
      .setProtectedHeader({ alg: 'HS256' }).setIssuer(ISSUER).setAudience(ISSUER).setSubject(randomUUID())
      .setIssuedAt(nowS).setExpirationTime(nowS + ttlSeconds).sign(this.#secret)
    return { token, expiresAt: new Date((nowS + ttlSeconds) * 1000).toISOString() }
  }

  async #byKey(key: string): Promise<Principal> {
    const hash = hashKey(key)
    const name = hash.toString('base64')
    const now = this.#context.now()
    const cached = this.#keys.get(name)
    if (cached !== undefined && cached.untilMs > now) return cached.principal
    const found = await findKey(this.#context.pool, hash)
    if (found === undefined) {
      this.#keys.delete(name)
      throw invalid()
    }
    if (this.#keys.size >= MAX_CACHED_KEYS) this.#keys.clear()
    const principal = keyPrincipal(found)
    this.#keys.set(name, { principal, untilMs: now + KEY_CACHE_MS })
    return principal
  }

  async #byToken(token: string): Promise<Principal> {
    const payload = await this.#verify(token)
    const issuer = this.#context.issuer
    const isForeign = payload.iss !== ISSUER
    const accounts = payload[isForeign ? issuer?.accountsClaim ?? 'accounts' : 'accounts']
    const utility = payload[isForeign ? issuer?.utilityClaim ?? 'utility' : 'utility']
    if (!isAccountList(accounts) || typeof utility !== 'string') throw invalid()
    const record = await findUtility(this.#context.pool, utility)
    if (record === undefined) throw invalid()
    return {
      actor: `member:${payload.sub ?? 'unknown'}`, role: 'member', utilityId: record.utilityId, utility, installation: false,
      sources: [], name: payload.sub ?? 'member', accounts: new Set(accounts),
    }
  }

  async #verify(token: string): Promise<JWTPayload> {
    const currentDate = new Date(this.#context.now())
    try {
      const claimed = decodeJwt(token).iss
      const issuer = this.#context.issuer
      if (claimed !== ISSUER && issuer !== undefined && this.#foreignKeys !== undefined) {
        const { payload } = await jwtVerify(token, this.#foreignKeys, {
          issuer: issuer.issuer, audience: issuer.audience, algorithms: FOREIGN_ALGORITHMS, currentDate, clockTolerance: 30,
          requiredClaims: ['exp'] })
        return payload
      }
      const { payload } = await jwtVerify(token, this.#secret, {
        issuer: ISSUER, audience: ISSUER, algorithms: ['HS256'], currentDate, requiredClaims: ['exp'] })
      return payload
    } catch (err) {
      if (err instanceof errors.JWKSTimeout || (err instanceof errors.JOSEError && err.code === 'ERR_JOSE_GENERIC') || (!(err instanceof errors.JOSEError) && isUnreachable(err))) {
        throw new ApiError(503, 'issuer-unavailable', 'The keys of the token\'s issuer cannot be fetched.', { retryAfter: 5 })
      }
      throw invalid()
    }
  }
}

/** Requires the route's declared role on every /v1 route of the scope; a route that declares none does not register. */
export function installAuth(scope: FastifyInstance, authenticator: Authenticator): void {
  scope.addHook('onRoute', (route) => {
    if (route.config?.roles === undefined) throw new Error(`${String(route.method)} ${route.url} declares no roles`)
  })
  scope.addHook('onRequest', async (request) => {
    request.principal = await authenticator.authenticate(request.headers.authorization)
    checkRole(request.principal, request.routeOptions.config)
  })
}

/**
 * Who pushes, by a door that finds the key itself.
 * @throws ApiError 401 `missing-credentials` or `invalid-credentials`, 403 `role-too-small`
 */
export async function authenticateHeadEnd(authenticator: Authenticator, header: string | undefined): Promise<Principal> {
  const principal = await authenticator.authenticate(header)
  checkRole(principal, { roles: ['head-end'], member: false })
  return principal
}

/** @throws ApiError 403 `role-too-small` */
export function checkRole(principal: Principal, config: FastifyContextConfig): void {
  const isAllowed = config.installation === true
    ? principal.role === 'operator' && principal.installation
    : principal.role === 'member'
      ? config.member === true
      : principal.role === 'operator' || (config.roles ?? []).includes(principal.role)
  if (isAllowed) return
  throw new ApiError(403, 'role-too-small', `The role ${principal.role} may not do this.`, {
    needs: config.installation === true ? ['operator of the installation'] : [...new Set([...config.roles ?? [], 'operator'])],
  })
}

function keyPrincipal(key: FoundKey): Principal {
  return {
    actor: `key:${key.name}`, role: key.role, utilityId: key.utilityId, utility: key.utility, installation: key.installation,
    sources: key.sources, name: key.name, accounts: null,
  }
}

function isAccountList(value: unknown): value is string[] {
  return Array.isArray(value) && value.length <= MAX_TOKEN_ACCOUNTS && value.every((v) => typeof v === 'string')
}

function isUnreachable(err: unknown): boolean {
  return isUnavailable(err) || (err instanceof TypeError && /fetch failed/.test(err.message))
}

function invalid(): ApiError {
  return new ApiError(401, 'invalid-credentials', 'The key or token is not valid, or no longer.')
}
