import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { emptyDatabase, onTimescale, testDatabase, type TestDatabase } from '../../test/database.js'
import { migrate, readMigrations, SchemaError } from './migrate.js'

describe('migrations', () => {
  const made: TestDatabase[] = []
  afterAll(async () => { for (const db of made) await db.close() })
  const empty = async () => {
    const db = await emptyDatabase()
    made.push(db)
    return db
  }

  test('an empty database gets every file once, and none the second time', async () => {
    const db = await empty()
    const files = await readMigrations()
    const first = await migrate(db.url)
    const storageMode = onTimescale() ? 'timescale' : 'partition'
    expect(first).toEqual({ applied: files.map((file) => file.name), version: files.length, storageMode })
    expect(await migrate(db.url)).toEqual({ ...first, applied: [] })
    const { rows } = await db.pool.query('select storage_mode from installation')
    expect(rows).toEqual([{ storage_mode: storageMode }])
  })

  test('plain partitions can be asked for where TimescaleDB could be had', async () => {
    const db = await empty()
    expect(await migrate(db.url, { timescale: 'never' })).toMatchObject({ storageMode: 'partition' })
    expect((await db.pool.query("select relkind from pg_class where oid = 'channel_day'::regclass")).rows).toEqual([{ relkind: 'p' }])
    expect(await migrate(db.url)).toMatchObject({ applied: [], storageMode: 'partition' })
  })

  test('20 processes at once all succeed and apply each file once', async () => {
    const db = await empty()
    const files = await readMigrations()
    const results = await Promise.all(Array.from({ length: 20 }, () => migrate(db.url)))
    expect(results.flatMap((result) => result.applied).sort()).toEqual(files.map((file) => file.name))
    expect(new Set(results.map((result) => result.version))).toEqual(new Set([files.length]))
  })

  test('an applied file that was edited is refused and nothing is changed', async () => {
    const db = await empty()
    const files = await readMigrations()
    await migrate(db.url)
    const edited = files.map((file, i) => i === 0 ? { ...file, sha256: '0'.repeat(64) } : file)
    edited.push({ number: files.length + 1, name: 'more', sql: 'create table more (i int)', sha256: 'x' })
    await expect(migrate(db.url, { migrations: edited })).rejects.toMatchObject({ code: 'schema-changed' })
    expect((await db.pool.query("select to_regclass('more') as more")).rows).toEqual([{ more: null }])
  })

  test('a schema newer than the program is refused with what to do', async () => {
    const db = await empty()
    const files = await readMigrations()
    await migrate(db.url)
    const attempt = migrate(db.url, { migrations: files.slice(0, -1) })
    await expect(attempt).rejects.toBeInstanceOf(SchemaError)
    await expect(attempt).rejects.toMatchObject({ code: 'schema-newer' })
    await expect(attempt).rejects.toThrow(/newer Meterline/)
  })

  test('a file that fails is rolled back whole; those before it stay and the next run goes on from there', async () => {
    const db = await empty()
    const files = await readMigrations()
    const next = { number: files.length + 1, name: 'next', sha256: 'x', sql: 'create table good (i int); select 1/0' }
    await expect(migrate(db.url, { migrations: [...files, next] })).rejects.toThrow(/migration next failed.*division by zero/)
    expect((await db.pool.query("select to_regclass('good') as good")).rows).toEqual([{ good: null }])
    const again = await migrate(db.url, { migrations: [...files, { ...next, sql: 'create table good (i int)' }] })
    expect(again.applied).toEqual(['next'])
  })
})

describe('the template', () => {
  let db: TestDatabase
  beforeAll(async () => { db = await testDatabase() })
  afterAll(async () => { await db.close() })

  test('a clone takes rows of today', async () => {
    await db.pool.query(`insert into channel_day (channel_id, day, first_at, interval_s, exponent, total, present, estimated, version, delivery_no, settled_at, vals)
      values (1, current_date, now(), 900, -3, 0, 0, 0, 1, 1, now(), '{1}')`)
    await db.pool.query("insert into revision (channel_id, day, at, kind, delivery_no, slots, exponent) values (1, current_date, now(), 1, 1, '{0}', -3)")
    expect((await db.pool.query('select seq from revision')).rows).toEqual([{ seq: 1 }])
  })
})
