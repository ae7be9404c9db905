import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { writeAudit } from './audit.js'
import { inTransaction, type Pool, type Queryable } from './store/db.js'

export { ensureUtility } from './utilities.js'

/** Roles of API keys (contract §3). */
export const ROLES = ['head-end', 'portal', 'notify', 'viewer', 'operator'] as const
export type KeyRole = typeof ROLES[number]

export interface NewKey {
  readonly utilityId: number
  readonly role: KeyRole
  /** Shows who it is; a head-end key without sources pushes for the source of this name. */
  readonly name: string
  readonly sources?: readonly string[]
  /** True: an operator who may make utilities. */
  readonly installation?: boolean
  /** Who makes it, for the audit list. */
  readonly actor: string
}

/** A key as it is listed; the secret itself is never kept. */
export interface KeyRecord {
  readonly id: string
  readonly name: string
  readonly role: KeyRole
  readonly sources: string[]
  readonly installation: boolean
  readonly createdAt: Date
  readonly revokedAt: Date | null
}

/** A live key and the utility it belongs to, as the auth hook needs it. */
export interface FoundKey {
  readonly keyId: string
  readonly name: string
  readonly role: KeyRole
  readonly sources: string[]
  readonly installation: boolean
  readonly utilityId: number
  readonly utility: string
}

/** SHA-256 of the key's text: what is stored. The key has 256 random bits, so it needs neither salt nor stretching. */
export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key, 'utf8').digest()
}

/** Makes a key and returns its secret, which is shown this once. */
export async function createKey(db: Queryable, key: NewKey): Promise<{ id: string; key: string }> {
  const id = randomUUID()
  const secret = `mk_${randomBytes(32).toString('base64url')}`
  await db.query(
    `insert into api_key (key_id, utility_id, name, role, sources, installation, hash)
     values ($1, $2, $3, $4, $5, $6, $7)`,
    [id, key.utilityId, key.name, key.role, key.sources ?? [], key.installation ?? false, hashKey(secret)])
  await writeAudit(db, {
    utilityId: key.utilityId, actor: key.actor, action: 'key.create', subject: id,
    detail: { name: key.name, role: key.role, sources: key.sources ?? [], installation: key.installation ?? false },
  })
  return { id, key: secret }
}

/** Keys of the utility, oldest first, revoked ones included. */
export async function listKeys(db: Queryable, utilityId: number): Promise<KeyRecord[]> {
  const { rows } = await db.query<KeyRecord>(
    `select key_id as id, name, role, sources, installation, created_at as "createdAt", revoked_at as "revokedAt"
       from api_key where utility_id = $1 order by created_at, key_id`, [utilityId])
  return rows
}

/** Revokes the key from now on; revoking twice keeps the first time. Returns false where the utility has no such key. */
export async function revokeKey(db: Queryable, utilityId: number, keyId: string, actor: string): Promise<boolean> {
  const { rowCount } = await db.query(
    'update api_key set revoked_at = coalesce(revoked_at, now()) where utility_id = $1 and key_id = $2',
    [utilityId, keyId])
  if (rowCount === 0) return false
  await writeAudit(db, { utilityId, actor, action: 'key.revoke', subject: keyId })
  return true
}

/** The live key of this hash; undefined where there is none or it was revoked. */
export async function findKey(db: Queryable, hash: Buffer): Promise<FoundKey | undefined> {
  const { rows } = await db.query<FoundKey>(
    `select k.key_id as "keyId", k.name, k.role, k.sources, k.installation,
            k.utility_id as "utilityId", u.id as utility
       from api_key k join utility u using (utility_id)
      where k.hash = $1 and k.revoked_at is null`, [hash])
  return rows[0]
}

/**
 * Makes the installation's first operator key where the database has no live one, so that somebody can get in.
 * @param keep keeps the secret before the key counts: a process killed in between leaves a secret without a key, which the
 *   next start replaces, never a key whose secret nobody has
 * @returns the secret to show; undefined where an operator key exists already
 */
export async function ensureFirstOperatorKey(pool: Pool, utilityId: number, keep: (secret: string) => void): Promise<string | undefined> {
  return inTransaction(pool, async (client) => {
    // Two processes that start at once on an empty database must not both make one.
    await client.query('lock table api_key in share row exclusive mode')
    const { rows } = await client.query(
      "select 1 from api_key where role = 'operator' and revoked_at is null limit 1")
    if (rows.length > 0) return undefined
    const { key } = await createKey(client,
      { utilityId, role: 'operator', name: 'operator', installation: true, actor: 'cli' })
    keep(key)
    return key
  })
}
