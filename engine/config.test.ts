import { availableParallelism } from 'node:os'
import { describe, expect, test } from 'vitest'
import { loadSettings, printableSettings, settingsTable, SettingsError, type SettingFault } from './config.js'

function faultsOf(env: Record<string, string>): readonly SettingFault[] {
  try {
    loadSettings(env)
  } catch (err) {
    if (err instanceof SettingsError) return err.faults
    throw err
  }
  return []
}

describe('settings', () => {
  test('an empty environment gives the defaults, and an empty text counts as unset', () => {
    const settings = loadSettings({})
    expect(settings).toMatchObject({
      host: '127.0.0.1', port: 8080, databaseUrl: null, meterlineDir: '.meterline', atomicMb: 64, maxBodyMb: 2048,
      maxInflightMb: 192, alignToleranceSeconds: 120, shutdownSeconds: 20, kafkaBrokers: [], kafkaTopic: 'meter-reads',
      logLevel: 'info', retentionReads: null, utilityZone: null, workers: Math.max(2, availableParallelism()),
    })
    expect(loadSettings({ PORT: '', DATABASE_URL: '', RETENTION_READS: '' })).toEqual(settings)
  })

  test('texts become values of their kind', () => {
    const settings = loadSettings({
      PORT: '0', WORKERS: '4', UTILITY_ZONE: 'Australia/Lord_Howe', KAFKA_BROKERS: 'one:9092, two:9092', LOG_LEVEL: 'warn',
      RETENTION_READS: '10 years', RETENTION_REVISIONS: '400 days', RETENTION_MESSAGES: 'forever', RETENTION_QUARANTINE: '1 month',
      DATABASE_URL: 'postgresql://me:secret@db/meter',
    })
    expect(settings).toMatchObject({
      port: 0, workers: 4, utilityZone: 'Australia/Lord_Howe', kafkaBrokers: ['one:9092', 'two:9092'], logLevel: 'warn',
      retentionReads: { months: 120 }, retentionRevisions: { days: 400 }, retentionMessages: null, retentionQuarantine: { months: 1 },
      databaseUrl: 'postgresql://me:secret@db/meter',
    })
  })

  test('every fault is reported at once with its name, value and rule', () => {
    const faults = faultsOf({
      PORT: '80a', WORKERS: '0', ATOMIC_MB: '1.5', MAX_INFLIGHT_MB: '1e3', UTILITY_ZONE: 'Mars/One', LOG_LEVEL: 'loud',
      RETENTION_READS: '3 weeks', RETENTION_MESSAGES: '0 days', KAFKA_BROKERS: 'one,,two', DATABASE_URL: 'db.example:5432', SMTP_URL: 'https://mail',
    })
    expect(faults.map((fault) => fault.name).sort()).toEqual([
      'ATOMIC_MB', 'DATABASE_URL', 'KAFKA_BROKERS', 'LOG_LEVEL', 'MAIL_FROM', 'MAX_INFLIGHT_MB', 'PORT', 'RETENTION_MESSAGES', 'RETENTION_READS',
      'SMTP_URL', 'UTILITY_ZONE', 'WORKERS'])
    expect(faults.find((fault) => fault.name === 'PORT')).toEqual({ name: 'PORT', value: '80a', rule: 'a whole number from 0 to 65535' })
    expect(new SettingsError(faults).message.split('\n')).toHaveLength(faults.length)
  })

  test.each(['0x10', ' 80', '80 ', '+80', '', '8e1', '99999999999999999999', 'NaN', '65536', '-1'])('the port "%s" is no number from 0 to 65535', (text) => {
    expect(faultsOf({ PORT: text })).toHaveLength(text === '' ? 0 : 1)
  })

  test.each(['+05:00', 'EST5EDT4', '', 'america/nowhere'])('"%s" is no zone', (text) => {
    expect(faultsOf({ UTILITY_ZONE: text })).toHaveLength(text === '' ? 0 : 1)
  })

  test('secrets never show, whatever is wrong with them', () => {
    const env = {
      SECRET_KEY: 'hush-short', DATABASE_URL: 'mysql://u:hush/@p@db/x', DATABASE_READ_URL: 'postgresql:u:hush@db', SMTP_URL: 'smpt://u:hush@mail',
      SMS_URL: 'ftp://hush:hush@sms', METERLINE_URL: 'x://y?password=hush',
      MAIL_FROM: 'a@b', SMS_ACCOUNT: 'a', SMS_TOKEN: 'hush', SMS_FROM: 'Coop',
    }
    const faults = faultsOf(env)
    expect(faults).toHaveLength(6)
    expect(JSON.stringify(faults) + new SettingsError(faults).message).not.toContain('hush')
    const settings = loadSettings({ SECRET_KEY: 'hush'.repeat(8), SMS_TOKEN: 'hush', KAFKA_SASL_PASSWORD: 'hush', DATABASE_URL: 'postgresql://u:hush@db/x' })
    expect(JSON.stringify(printableSettings(settings))).not.toContain('hush')
  })

  test('settings that need each other are refused alone', () => {
    expect(faultsOf({ SMS_URL: 'https://sms', SMS_ACCOUNT: 'a' })).toEqual([
      { name: 'SMS_TOKEN', value: null, rule: 'set where SMS_URL is' }, { name: 'SMS_FROM', value: null, rule: 'set where SMS_URL is' }])
    expect(faultsOf({ ATOMIC_MB: '64', MAX_BODY_MB: '32' })).toMatchObject([{ name: 'ATOMIC_MB' }])
  })

  test('overrides go before the environment and are checked like it; the result is frozen', () => {
    const settings = loadSettings({ PORT: 'nonsense' }, { port: 0, host: undefined, kafkaBrokers: ['one:1'] })
    expect(settings).toMatchObject({ port: 0, host: '127.0.0.1', kafkaBrokers: ['one:1'] })
    expect(() => loadSettings({}, { port: 70_000 })).toThrow(SettingsError)
    expect(Object.isFrozen(settings) && Object.isFrozen(settings.kafkaBrokers)).toBe(true)
  })

  test('the table has a meaning for every setting', () => {
    const rows = settingsTable()
    expect(rows.map((row) => row.name)).toContain('RETENTION_DELIVERIES')
    expect(rows.filter((row) => row.meaning === '')).toEqual([])
    expect(rows.find((row) => row.name === 'PORT')).toMatchObject({ default: '8080' })
  })
})
