import type { Queryable } from '../store/db.js'

/** What an unsubscribe page may show of a contact. */
export interface ContactFace {
  /** Masked. */
  readonly address: string
  readonly language: string
  readonly utility: string | null
}

/** null where there is no such contact: it may have been erased. */
export async function findFace(db: Queryable, contactId: string): Promise<ContactFace | null> {
  const { rows } = await db.query<ContactFace>(
    `select c.masked as address, c.language, u.name as utility from contact c join utility u using (utility_id) where c.contact_id = $1`, [contactId])
  return rows[0] ?? null
}
