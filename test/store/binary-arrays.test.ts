import { describe, expect, it } from '@jest/globals';
import { byteaArray, textArray, timestampArray, uuidArray } from '../../src/store/binary-arrays.ts';
import { onEachMajor } from './majors.ts';
import type { TestStore } from './majors.ts';

const ID = '0b8f4c0e-6a5f-4d43-9d0e-0f4c6f5f9a11';

const arrays = (test: TestStore): void => {
  const through = async (type: string, array: Buffer): Promise<unknown> => {
    const sql = `select $1::${type}[] as value`;
    const { rows } = await test.store().pool.query<{ value: unknown }>(sql, [array]);
    return rows[0]?.value;
  };

  it('are what the database takes them for', async () => {
    const bytes = [Buffer.alloc(0), Buffer.from([0, 1, 255]), Buffer.alloc(70_000, 7)];
    expect(await through('bytea', byteaArray(bytes))).toEqual(bytes);
    const texts = ['', 'a', 'a', null, '{"\\,}', 'é€𐍈', 'NULL', 'a'];
    expect(await through('text', textArray(texts))).toEqual(texts);
    expect(await through('uuid', uuidArray([ID, ID, null]))).toEqual([ID, ID, null]);
    const times = ['1999-12-31T23:59:59.999Z', '2026-11-29T01:02:03.004Z'].map(
      (at) => new Date(at),
    );
    expect(await through('timestamptz', timestampArray(times))).toEqual(times);
  });

  it('may be empty', async () => {
    expect(await through('bytea', byteaArray([]))).toEqual([]);
    expect(await through('text', textArray([]))).toEqual([]);
  });
};
onEachMajor('arrays in binary', arrays);

describe('a value of another type', () => {
  it('is refused before it is sent', () => {
    expect(() => uuidArray(['no UUID'])).toThrow(RangeError);
    expect(() => timestampArray([new Date(Number.NaN)])).toThrow(RangeError);
  });
});
