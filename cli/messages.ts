import { writeAudit } from '../engine/audit.js'
import type { Settings } from '../engine/config.js'
import { createSealer } from '../engine/contacts/seal.js'
import { listMessages, messageStates, replayMessages, type MessageState, type MessageView } from '../engine/notify/messages.js'
import { remoteServer } from './client.js'
import { checkId, onDatabase, print, utilityOf } from './commands.js'

/** As many as one page of the API has. */
const SHOWN = 100

/** Messages of one utility, in the database or behind a running server. */
interface Messages {
  list: (state: MessageState) => Promise<readonly MessageView[]>
  /** @returns how many wait in the outbox again */
  replay: (id: string | null) => Promise<number>
}

/**
 * `meterline messages list [--state S]` shows the newest messages of a state, the dead letters (failed) where none is named;
 * `messages replay [ID]` sends again what failed, or one message of failed or unknown state. They go out by a process with
 * the role notify.
 */
export async function messagesCommand(
  settings: Settings, words: readonly string[], options: { state: string | null; utility: string | null },
): Promise<number> {
  const work = workOf(words, options.state)
  const client = remoteServer(settings)
  if (client === null) {
    return onDatabase(settings, async (database) => {
      const { utilityId } = await utilityOf(database, options.utility)
      const sealer = createSealer({ secretKey: database.secretKey })
      return work({
        list: async (state) => (await listMessages(database.pool, sealer, utilityId, { limit: SHOWN, state, readable: [] })).slice(0, SHOWN).map((m) => m.view),
        replay: async (id) => {
          const replayed = await replayMessages(database.pool, utilityId, id, new Date())
          await writeAudit(database.pool, { utilityId, actor: 'cli', action: 'messages.replay', subject: id ?? 'failed', detail: { replayed } })
          return replayed
        },
      })
    })
  }
  try {
    return await work({
      list: async (state) => (await client.json<{ items: MessageView[] }>('GET', `/v1/messages?state=${state}&limit=${SHOWN}`)).items,
      replay: async (id) => (await client.json<{ replayed: number }>('POST', '/v1/messages/replay', id === null ? {} : { message: id })).replayed,
    })
  } finally {
    client.close()
  }
}

/** What the words ask for, checked before a database is started for it. */
function workOf(words: readonly string[], state: string | null): (messages: Messages) => Promise<number> {
  const [verb, id] = words
  switch (verb) {
    case 'list': {
      const asked = messageStates.find((s) => s === (state ?? 'failed'))
      if (asked === undefined) throw new Error(`--state knows ${messageStates.join(', ')}, not "${state}"`)
      return async (messages) => {
        print(await messages.list(asked))
        return 0
      }
    }
    case 'replay':
      if (state !== null) throw new Error('messages replay takes the id of a message, or nothing: it has no --state')
      if (id !== undefined) checkId(id, 'message')
      return async (messages) => {
        const replayed = await messages.replay(id ?? null)
        if (id !== undefined && replayed === 0) throw new Error(`there is no message ${id} that failed or whose fate is unknown`)
        print({ replayed })
        return 0
      }
    default:
      throw new Error('messages knows list and replay')
  }
}
