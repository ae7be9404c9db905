/** What a member's text asks for. */
export type TextWord = 'stop' | 'start' | 'help'

// Words that United States rules take for a revocation by themselves (47 CFR 64.1200(a)(10), in force since 11 April 2025),
// those that carriers add, and their Spanish and French.
const STOP = new Set([
  'stop', 'stopall', 'quit', 'end', 'revoke', 'opt out', 'optout', 'cancel', 'unsubscribe', 'remove', 'arret', 'alto', 'parar', 'pare',
  'cancelar', 'terminar', 'baja',
])
const START = new Set(['start', 'unstop', 'resume', 'comenzar', 'iniciar', 'empezar', 'alta'])
const HELP = new Set(['help', 'info', 'ayuda'])
// Consent may be revoked by any reasonable means: in a sentence these say it too.
const SAYS_STOP = /\b(stop|unsubscribe|opt out|optout|revoke)\b/

/** The word, whatever its case, accents and punctuation; null for a text that asks for none of them. */
export function wordOf(body: string): TextWord | null {
  const text = body.normalize('NFKD').replace(/[\u0300-\u036f]/g, '').toLowerCase().replace(/[^a-z]+/g, ' ').trim()
  if (STOP.has(text)) return 'stop'
  if (START.has(text)) return 'start'
  if (HELP.has(text)) return 'help'
  return SAYS_STOP.test(text) ? 'stop' : null
}
