import { createKey, listKeys, revokeKey, ROLES, type KeyRole } from '../engine/access.js'
import type { Settings } from '../engine/config.js'
import { remoteServer, type Client } from './client.js'
import { checkId, onDatabase, print, utilityOf } from './commands.js'

interface KeyOptions {
  role: string | null
  utility: string | null
  sources: string | null
  name: string | null
}

interface NewKey {
  role: KeyRole
  name: string
  sources: string[]
}

/** API keys of one utility, in the database or behind a running server. */
interface Keys {
  create: (key: NewKey) => Promise<{ id: string; key: string }>
  list: () => Promise<unknown>
  revoke: (id: string) => Promise<boolean>
}

/** `meterline key create|list|revoke` @returns 1 where the key to revoke does not exist */
export async function keyCommand(settings: Settings, words: readonly string[], options: KeyOptions): Promise<number> {
  const work = workOf(words, options)
  const client = remoteServer(settings)
  if (client === null) {
    return onDatabase(settings, async (database) => {
      const { utilityId } = await utilityOf(database, options.utility)
      return work({
        create: (key) => createKey(database.pool, { utilityId, ...key, actor: 'cli' }),
        list: () => listKeys(database.pool, utilityId),
        revoke: (id) => revokeKey(database.pool, utilityId, id, 'cli'),
      })
    })
  }
  try {
    return await work(remoteKeys(client))
  } finally {
    client.close()
  }
}

/** What the words ask for, checked before a database is started for it. */
function workOf(words: readonly string[], options: KeyOptions): (keys: Keys) => Promise<number> {
  const [verb, id] = words
  switch (verb) {
    case 'create': {
      const role = ROLES.find((r) => r === options.role)
      if (role === undefined) throw new Error(`key create needs --role ${ROLES.join('|')}`)
      const sources = options.sources === null ? [] : options.sources.split(',').map((s) => s.trim()).filter((s) => s !== '')
      return async (keys) => {
        const made = await keys.create({ role, name: options.name ?? role, sources })
        print({ id: made.id, key: made.key })
        return 0
      }
    }
    case 'list':
      return async (keys) => {
        print(await keys.list())
        return 0
      }
    case 'revoke':
      if (id === undefined) throw new Error('key revoke needs the id of a key; `meterline key list` shows them')
      checkId(id, 'key')
      return async (keys) => {
        if (!await keys.revoke(id)) throw new Error(`there is no key ${id}`)
        process.stdout.write('revoked\n')
        return 0
      }
    default:
      throw new Error('key knows create, list and revoke')
  }
}

function remoteKeys(client: Client): Keys {
  return {
    create: (key) => client.json<{ id: string; key: string }>('POST', '/v1/keys', key),
    list: async () => (await client.json<{ items: unknown[] }>('GET', '/v1/keys')).items,
    revoke: async (id) => {
      await client.json('DELETE', `/v1/keys/${id}`)
      return true
    },
  }
}
