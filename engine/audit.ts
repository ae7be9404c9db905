import type { Queryable } from './store/db.js'

/** One change that somebody made. Detail carries ids and settings, never names, addresses or other personal data. */
export interface AuditEntry {
  readonly utilityId: number
  /** `key:<name>`, `member:<subject>` or `cli`. */
  readonly actor: string
  /** What was done, as `<thing>.<verb>`: `key.create`, `meters.write`. */
  readonly action: string
  /** Public id of what it was done to. */
  readonly subject: string
  readonly detail?: Record<string, unknown>
}

/** Writes the entry; call it in the transaction that makes the change, so that neither stands without the other. */
export async function writeAudit(db: Queryable, entry: AuditEntry): Promise<void> {
  await db.query('insert into audit (utility_id, actor, action, subject, detail) values ($1, $2, $3, $4, $5)',
    [entry.utilityId, entry.actor, entry.action, entry.subject, JSON.stringify(entry.detail ?? {})])
}

/** A row of the audit list. */
export interface AuditRow {
  audit_id: number
  at: Date
  actor: string
  action: string
  subject: string
  detail: Record<string, unknown>
}

/** Entries of the utility, newest first, older than the entry `before` where given. */
export async function listAudit(
  db: Queryable, utilityId: number, limit: number, before: number | null, subject: string | null,
): Promise<AuditRow[]> {
  const { rows } = await db.query<AuditRow>(
    `select audit_id, at, actor, action, subject, detail from audit
      where utility_id = $1 and ($2::bigint is null or audit_id < $2) and ($3::text is null or subject = $3)
      order by audit_id desc limit $4`, [utilityId, before, subject, limit])
  return rows
}
