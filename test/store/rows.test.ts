import { randomUUID } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { KEY_COLUMNS, keyFromRow, keyRow } from '../../src/store/key-rows.ts';
import { rowJson } from '../../src/store/rows.ts';
import { VERSION_COLUMNS, versionFromRow, versionRow } from '../../src/store/version-rows.ts';
import type { VersionRow } from '../../src/store/version-rows.ts';
import { anyKey, anyVersion } from './arbitraries.ts';
import { onEachMajor } from './majors.ts';
import { attested, changer, rejection } from './samples.ts';

const failed = (what: () => unknown): unknown => {
  try {
    return what();
  } catch (error) {
    return error instanceof Error ? Reflect.get(error, 'code') : error;
  }
};

describe('rows and domain values', () => {
  it('carry every version there and back', () => {
    const versions = anyVersion.map(attested);
    fc.assert(
      fc.property(versions, (version) => {
        const row = versionRow(version);
        expect(Object.keys(row).toSorted()).toEqual([...VERSION_COLUMNS].toSorted());
        expect(versionFromRow(row)).toEqual(version);
      }),
      { numRuns: 500 },
    );
  });

  it('carry every key there and back', () => {
    const keys = anyKey.map(attested);
    fc.assert(
      fc.property(keys, (key) => {
        const row = keyRow(key);
        expect(Object.keys(row).toSorted()).toEqual([...KEY_COLUMNS].toSorted());
        expect(keyFromRow(row)).toEqual(key);
      }),
    );
  });

  it('give different rows for different versions', () => {
    fc.assert(
      fc.property(anyVersion, anyVersion, (one, other) => {
        const mac = new Uint8Array(32);
        const [a, b] = [one, other].map((value) =>
          JSON.stringify(rowJson(versionRow({ value, mac }))),
        );
        expect(a === b).toBe(JSON.stringify(one) === JSON.stringify(other));
      }),
    );
  });

  it('call a version that lacks a column, or has one too many, an integrity failure or another version', () => {
    const column = fc.constantFrom(...VERSION_COLUMNS);
    fc.assert(
      fc.property(anyVersion.map(attested), anyVersion.map(attested), column, (one, other, at) => {
        const value = versionRow(other)[at];
        const spliced: VersionRow = { ...versionRow(one), [at]: value };
        const result = failed(() => versionFromRow(spliced));
        // No splice may read as the version that it was made from: every column is in the value.
        if (result !== 'integrity_failed') {
          const same =
            JSON.stringify(rowJson(spliced)) === JSON.stringify(rowJson(versionRow(one)));
          expect(JSON.stringify(result) === JSON.stringify(one)).toBe(same);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it.each(['id', 'name', 'purpose', 'labels', 'created_at', 'revision', 'mac'] as const)(
    'call a key without %s an integrity failure',
    (column) => {
      const [key] = fc.sample(anyKey.map(attested), 1);
      if (key === undefined) throw new Error('no sample');
      const row = { ...keyRow(key), [column]: null } as unknown as Parameters<typeof keyFromRow>[0];
      expect(failed(() => keyFromRow(row))).toBe('integrity_failed');
    },
  );
});

onEachMajor('rows through the database', (test) => {
  it('carry every key and version there and back, by SQL and by Prisma', async () => {
    const changes = await changer(test.store());
    const pairs = fc.tuple(anyKey, fc.array(anyVersion, { maxLength: 3 }));
    await fc.assert(
      fc.asyncProperty(pairs, async ([anyone, some]) => {
        const key = attested({ ...anyone, id: randomUUID(), name: randomUUID() + anyone.name });
        const versions = some.map((version, at) =>
          attested({ ...version, keyId: key.value.id, version: at + 1 }),
        );
        await changes.commit([
          { kind: 'insert-key', row: key },
          ...versions.map((row) => ({ kind: 'insert-version', row }) as const),
        ]);
        const { id, name } = key.value;
        expect(await test.store().keys.find('default', { id }, 0)).toEqual({ key, versions });
        const { keys } = await test.store().keys.list({
          namespace: 'default',
          pageSize: 1,
          afterName: null,
          namePrefix: name,
          labels: key.value.labels,
          suite: null,
          state: null,
        });
        const shown = versions.filter(({ value }) => value.version === key.value.primary);
        expect(keys).toEqual([{ key, versions: shown }]);
        for (const [at, row] of versions.entries()) {
          const updated = attested({ ...row.value, revision: row.value.revision });
          const expected = row.value.revision;
          await changes.commit([{ kind: 'update-version', row: updated, expected }]);
          const found = await test.store().keys.find('default', { id }, 0);
          expect(found?.versions[at]).toEqual(updated);
        }
      }),
      { numRuns: 30 },
    );
  }, 60_000);

  it('refuse a name beyond Unicode', async () => {
    const changes = await changer(test.store());
    const [key] = fc.sample(anyKey, 1);
    if (key === undefined) throw new Error('no sample');
    const row = attested({ ...key, name: '\udc00' });
    expect(await rejection(changes.commit([{ kind: 'insert-key', row }]))).toMatchObject({
      code: 'invalid_value',
    });
  });
});
