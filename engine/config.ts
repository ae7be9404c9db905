import { availableParallelism } from 'node:os'
import { Type, type Static, type TSchema } from 'typebox'
import { Check } from 'typebox/schema'

/** The settings: one schema, read once at the start. No other file reads process.env. */

/** How long something is kept; null: for ever. Months are calendar months. */
export type Retention = { days: number } | { months: number } | null

/** One setting that is wrong. Values that may hold a secret are masked. */
export interface SettingFault {
  name: string
  /** As given, masked; null where the setting is missing. */
  value: string | null
  /** What it must be, to follow "must be". */
  rule: string
}

/** Everything that is wrong with the settings, at once. */
export class SettingsError extends Error {
  readonly faults: readonly SettingFault[]

  constructor(faults: readonly SettingFault[]) {
    super(faults.map(({ name, value, rule }) => `${name} ${value === null ? 'is not set' : `is "${value}"`}: it must be ${rule}`).join('\n'))
    this.name = 'SettingsError'
    this.faults = faults
  }
}

/** What a setting carries beside its JSON schema. */
interface Traits {
  /** From the text of the environment; undefined where the text is not of this kind. */
  parse: (text: string) => unknown
  rule: string
  /** For the table, where it is not the value itself. */
  defaultText?: string
}
const traits = new WeakMap<TSchema, Traits>()

function define<T extends TSchema>(schema: T, given: Traits): T {
  traits.set(schema, given)
  return schema
}

const asText = (value: string): string => value

function text(meaning: string, options: { default?: string; pattern?: string; rule?: string } = {}) {
  const { rule, ...schema } = options
  return define(Type.Union([Type.String({ minLength: 1, ...schema }), Type.Null()], { description: meaning, default: options.default ?? null }),
    { parse: asText, rule: rule ?? 'a text' })
}

/** A text that always has a value. */
function textWith(fallback: string, meaning: string, options: { pattern?: string; rule?: string } = {}) {
  const { rule, ...schema } = options
  return define(Type.String({ minLength: 1, ...schema, description: meaning, default: fallback }), { parse: asText, rule: rule ?? 'a text' })
}

function integer(meaning: string, minimum: number, maximum: number, fallback: number, defaultText?: string) {
  return define(Type.Integer({ description: meaning, minimum, maximum, default: fallback }), {
    parse: (value) => /^-?\d{1,15}$/.test(value) ? Number(value) : undefined,
    rule: `a whole number from ${minimum} to ${maximum}`,
    defaultText,
  })
}

function choice<const T extends string>(meaning: string, words: readonly T[], fallback: NoInfer<T>) {
  return define(Type.Unsafe<T>(Type.Union(words.map((word) => Type.Literal(word)), { description: meaning, default: fallback })),
    { parse: asText, rule: `one of ${words.join(', ')}` })
}

function url(meaning: string, protocols: readonly string[]) {
  const isOne = (value: string): boolean => {
    try {
      return protocols.includes(new URL(value).protocol.slice(0, -1)) && /^\w+:\/\//.test(value)
    } catch {
      return false
    }
  }
  return define(Type.Union([Type.String(), Type.Null()], { description: meaning, default: null }),
    { parse: (value) => isOne(value) ? value : undefined, rule: `a URL that begins with ${protocols.map((p) => `${p}://`).join(' or ')}` })
}

function list(meaning: string, rule: string, pattern: string) {
  return define(Type.Array(Type.String({ pattern }), { description: meaning, default: [] }),
    { parse: (value) => value.split(',').map((part) => part.trim()), rule, defaultText: '' })
}

function retention(meaning: string) {
  const count = (name: 'days' | 'months') => Type.Object({ [name]: Type.Integer({ minimum: 1, maximum: 36_500 }) })
  return define(Type.Unsafe<Retention>(Type.Union([count('days'), count('months'), Type.Null()], { description: meaning, default: null })),
    { parse: parseRetention, rule: '"forever" or a span such as "400 days", "36 months", "10 years"', defaultText: 'forever' })
}

function parseRetention(value: string): Retention | undefined {
  if (value === 'forever') return null
  const match = /^(\d{1,5}) ?(days?|months?|years?)$/.exec(value)
  if (match === null) return undefined
  const count = Number(match[1])
  if (match[2].startsWith('d')) return { days: count }
  return { months: match[2].startsWith('m') ? count : count * 12 }
}

function zone(meaning: string) {
  const parse = (value: string): string | undefined => {
    try {
      // Intl takes fixed offsets such as +05:00 too, which are no zones of the tz database.
      return /^[A-Za-z]/.test(value) ? new Intl.DateTimeFormat('en', { timeZone: value }).resolvedOptions().timeZone && value : undefined
    } catch {
      return undefined
    }
  }
  return define(Type.Union([Type.String(), Type.Null()], { description: meaning, default: null }),
    { parse, rule: 'the name of a zone of the tz database, such as America/Chicago' })
}

const cores = Math.max(2, availableParallelism())

const schema = Type.Object({
  HOST: textWith('127.0.0.1', 'Address that the HTTP server listens on'),
  PORT: integer('Port of the HTTP server; 0 takes a free one', 0, 65_535, 8080),
  DATABASE_URL: url('PostgreSQL 15 or newer, with or without TimescaleDB; unset: the embedded PostgreSQL', ['postgresql', 'postgres']),
  DATABASE_READ_URL: url('A read replica for the usage queries', ['postgresql', 'postgres']),
  DATABASE_TIMEOUT_SECONDS: integer('A statement that takes longer, or gets no answer, is given up: pushes and calls get 503', 1, 3600, 30),
  METERLINE_DIR: textWith('.meterline', 'Folder of the embedded database, the operator key and the secret key'),
  UTILITY_ZONE: zone('Time zone of the default utility; needed before its first read'),
  WORKERS: integer('Worker threads that decode and settle', 1, 256, cores, 'the number of cores, at least 2'),
  MAX_INFLIGHT_MB: integer('Bytes of bodies held in memory at once; past that, pushes get 429 or 503', 1, 1_000_000, 192),
  ATOMIC_MB: integer('A body up to this size is one transaction; a larger one commits in numbered parts', 1, 1024, 64),
  MAX_BODY_MB: integer('A larger body is refused with 413', 1, 1_000_000, 2048),
  BODY_TIMEOUT_SECONDS: integer('In every such span a sender brings 32 KB of its body or the end of it; otherwise 408', 1, 3600, 30),
  ALIGN_TOLERANCE_SECONDS: integer('How far a read may start off its interval grid and still be moved onto it', 0, 3600, 120),
  KAFKA_BROKERS: list('Brokers of the Kafka door; unset: no Kafka', 'host:port pairs with commas between', '^[^\\s,:]+(:\\d{1,5})?$'),
  KAFKA_TOPIC: textWith('meter-reads', 'Topic of reads', { pattern: '^[A-Za-z0-9._-]{1,249}$', rule: 'a topic name: letters, digits, ".", "_" and "-"' }),
  KAFKA_GROUP: textWith('meterline', 'Consumer group'),
  KAFKA_UTILITY: textWith('default', 'Utility of messages without the header "utility"'),
  KAFKA_SESSION_SECONDS: integer('A process that the group has not heard of for so long loses its partitions to the others', 1, 1800, 45),
  KAFKA_SECURITY_PROTOCOL: choice('librdkafka security.protocol', ['plaintext', 'ssl', 'sasl_plaintext', 'sasl_ssl'], 'plaintext'),
  KAFKA_SASL_MECHANISM: choice('librdkafka sasl.mechanisms', ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER', 'GSSAPI'], 'PLAIN'),
  KAFKA_SASL_USERNAME: text('librdkafka sasl.username'),
  KAFKA_SASL_PASSWORD: text('librdkafka sasl.password'),
  KAFKA_SSL_CA_LOCATION: text('librdkafka ssl.ca.location'),
  KAFKA_SSL_CERTIFICATE_LOCATION: text('librdkafka ssl.certificate.location'),
  KAFKA_SSL_KEY_LOCATION: text('librdkafka ssl.key.location'),
  KAFKA_SSL_KEY_PASSWORD: text('librdkafka ssl.key.password'),
  WATCH_DIR: text('Folder of the file drop; unset: no file drop'),
  WATCH_STABLE_SECONDS: integer('A file in WATCH_DIR is taken when it has not grown for so long', 1, 3600, 2),
  WATCH_POLL_SECONDS: integer('WATCH_DIR is looked through this often, where the file system tells of no changes', 1, 3600, 5),
  SMTP_URL: url('Mail server; unset: messages are kept as "captured"', ['smtp', 'smtps']),
  SMTP_CONNECTIONS: integer('Connections to the mail server kept at once, each with one mail under way', 1, 200, 16),
  MAIL_FROM: text('Sender of e-mail', { pattern: '@', rule: 'an e-mail address' }),
  SMS_URL: url('A Twilio-compatible Messages API; unset: messages are kept as "captured"', ['https', 'http']),
  SMS_ACCOUNT: text('Account at the SMS gateway'),
  SMS_TOKEN: text('Token of that account'),
  SMS_FROM: text('Sender of SMS', { pattern: '^(\\+[1-9]\\d{6,14}|[A-Za-z0-9 ]{1,11}|MG[0-9a-f]{32})$', rule: 'a number in E.164, a sender name, or the id of a messaging service' }),
  SMS_STOP_SCOPE: choice('What a STOP by text ends: the category that it answers, or all messages', ['category', 'all'], 'category'),
  PUBLIC_URL: url('Address under which members and the SMS gateway reach this program: links in mails, signatures of texts', ['https', 'http']),
  WEBHOOK_PRIVATE: choice('Whether webhooks may lead into private networks and to this machine', ['refuse', 'allow'], 'refuse'),
  SECRET_KEY: text('Seals contact addresses and messages, signs member tokens; unset: made once and kept in METERLINE_DIR',
    { pattern: '^[\\s\\S]{32,}$', rule: 'at least 32 characters' }),
  JWKS_URL: url('Keys of the issuer of JWTs; unset: API keys and minted tokens only', ['https', 'http']),
  JWT_ISSUER: text('Issuer that JWTs must name'),
  JWT_AUDIENCE: text('Audience that JWTs must name'),
  JWT_UTILITY_CLAIM: textWith('utility', 'Claim that names the utility'),
  JWT_ROLE_CLAIM: textWith('role', 'Claim that names the role'),
  JWT_ACCOUNTS_CLAIM: textWith('accounts', 'Claim that lists the accounts of a member'),
  RETENTION_READS: retention('How long reads, load totals, meter events and outages are kept'),
  RETENTION_REVISIONS: retention('How long replaced values are kept: asOf and withdrawal reach back that far'),
  RETENTION_QUARANTINE: retention('How long quarantined reads are kept, and Kafka messages that wait for the dead topic'),
  RETENTION_MESSAGES: retention('How long messages to members, notices, texts that came in and webhook deliveries are kept'),
  RETENTION_DELIVERIES: retention('How long receipts are kept'),
  ALERT_SETTLE_HOURS: integer('How long after a period ends its missing reads are waited for, before it is judged without them', 1, 720, 48),
  SHUTDOWN_SECONDS: integer('How long a stop may take before it is forced', 1, 3600, 20),
  LOG_LEVEL: choice('Least level that is logged', ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
  METERLINE_URL: url('Running server that commands talk to; unset: they work on the database', ['https', 'http']),
  METERLINE_KEY: text('API key that commands send to METERLINE_URL'),
})

type Environment = Static<typeof schema>
type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Lowercase<Head>}${Capitalize<Camel<Tail>>}` : Lowercase<S>

/** The settings as the program uses them: DATABASE_URL is `databaseUrl`. Unset texts, URLs and zones are null. */
export type Settings = { readonly [K in keyof Environment as Camel<K>]: Readonly<Environment[K]> }

const NAMES = Object.keys(schema.properties) as (keyof Environment)[]

function camel(name: string): keyof Settings {
  return name.toLowerCase().replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()) as keyof Settings
}

/** Settings that make sense only together: when the first is set, the others must be. */
const TOGETHER: [keyof Environment, (keyof Environment)[]][] = [
  ['SMTP_URL', ['MAIL_FROM']],
  ['SMS_URL', ['SMS_ACCOUNT', 'SMS_TOKEN', 'SMS_FROM']],
  ['JWKS_URL', ['JWT_ISSUER', 'JWT_AUDIENCE']],
]

/**
 * Reads the settings. An empty text counts as unset.
 *
 * @param env names and texts, usually the process's environment
 * @param overrides values that go before the environment's, such as command-line options; those undefined do not count
 * @throws SettingsError with every fault
 */
export function loadSettings(env: Readonly<Record<string, string | undefined>> = process.env, overrides: Partial<Settings> = {}): Settings {
  const faults: SettingFault[] = []
  const result: Record<string, unknown> = {}
  for (const name of NAMES) {
    const given = env[name] === '' ? undefined : env[name]
    const override: unknown = overrides[camel(name)]
    const property = schema.properties[name] as TSchema & { default?: unknown }
    const { parse, rule } = traitsOf(property)
    let value: unknown = structuredClone(property.default)
    if (override !== undefined) value = override
    else if (given !== undefined) value = parse(given)
    if (value === undefined || !Check(property, value)) {
      faults.push({ name, value: masked(name, override === undefined ? given ?? '' : asPlainText(override)), rule })
    }
    result[camel(name)] = value
  }
  const settings = result as Settings
  for (const [name, needed] of TOGETHER) {
    if (settings[camel(name)] === null) continue
    for (const other of needed) if (settings[camel(other)] === null) faults.push({ name: other, value: null, rule: `set where ${name} is` })
  }
  if (faults.length === 0 && settings.atomicMb > settings.maxBodyMb) {
    faults.push({ name: 'ATOMIC_MB', value: String(settings.atomicMb), rule: `no more than MAX_BODY_MB, which is ${settings.maxBodyMb}` })
  }
  if (faults.length > 0) throw new SettingsError(faults)
  for (const value of Object.values(result)) if (typeof value === 'object' && value !== null) Object.freeze(value)
  return Object.freeze(settings)
}

function traitsOf(property: TSchema): Traits {
  const found = traits.get(property)
  if (found === undefined) throw new Error('a setting without traits')
  return found
}

function asPlainText(value: unknown): string {
  if (value === null || value === undefined) return ''
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** A value fit for a log: secrets are hidden whole; of URLs everything between the scheme and the host, however misspelt. */
function masked(name: string, value: string): string {
  if (/_(TOKEN|PASSWORD|KEY)$/.test(name)) return '***'
  const at = value.lastIndexOf('@')
  const open = name.endsWith('_URL') && at >= 0 ? `${/^\w+:(?=\/\/)/.exec(value)?.[0] ?? ''}//***${value.slice(at)}` : value
  return open.replace(/([?&](?:password|sslpassword)=)[^&]*/gi, '$1***')
}

/** The settings with secrets hidden, for `LOG_LEVEL=debug` and bug reports. */
export function printableSettings(settings: Settings): Record<string, unknown> {
  return Object.fromEntries(NAMES.map((name) => {
    const value = settings[camel(name)]
    return [name, typeof value === 'string' ? masked(name, value) : value]
  }))
}

/** Rows of the README's table, in the order of the schema. */
export function settingsTable(): { name: string; default: string; meaning: string }[] {
  return NAMES.map((name) => {
    const property = schema.properties[name] as TSchema & { default?: unknown; description?: string }
    const { defaultText } = traitsOf(property)
    return { name, default: defaultText ?? asPlainText(property.default), meaning: property.description ?? '' }
  })
}
