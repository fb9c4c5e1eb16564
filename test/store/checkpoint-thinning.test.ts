import { beforeEach, expect, it } from '@jest/globals';
import { onEachMajor } from './majors.ts';
import type { TestStore } from './majors.ts';
import { rowsAsOwner, withOwner } from './owner.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const thinning = (test: TestStore): void => {
  const sizes = async (): Promise<number[]> => {
    const sql = 'select size::integer from public.log_checkpoint order by size';
    const rows = await rowsAsOwner<{ size: number }>(test.database(), sql);
    return rows.map(({ size }) => size);
  };
  const owner = (text: string): Promise<unknown> =>
    withOwner(test.database(), (client) => client.query(text));
  const expire = (limit = 10_000): Promise<number> =>
    test.store().checkpoints.expire(new Date(), limit);

  beforeEach(async () => {
    await owner(`alter table public.log_checkpoint disable trigger user;
      delete from public.log_checkpoint; delete from public.log_cosignature;
      alter table public.log_checkpoint enable trigger user`);
    // Four hours of three days ago, one of a day ago; a checkpoint every ten minutes.
    const start = Math.floor((Date.now() - 72 * HOUR) / HOUR) * HOUR;
    const rows = [0, 1, 2, 3, 48].flatMap((hour, h) =>
      Array.from({ length: 6 }, (_, at) => {
        const time = new Date(start + hour * HOUR + at * 10 * MINUTE).toISOString();
        return `(${String(h * 6 + at + 1)}, 'note', '${time}')`;
      }),
    );
    await owner(`insert into public.log_checkpoint (size, note, at) values ${rows.join(',')}`);
  });

  it('keeps the last of each hour, and all of two days', async () => {
    expect(await expire()).toBe(20);
    expect(await sizes()).toEqual([6, 12, 18, 24, 25, 26, 27, 28, 29, 30]);
    expect(await expire()).toBe(0);
  });

  it('keeps what a witness has cosigned, and goes in steps', async () => {
    await owner(`insert into public.log_cosignature (size, name, key_id, line)
      values (2, 'witness', '01020304', 'line')`);
    expect([await expire(15), await expire(15), await expire(15)]).toEqual([15, 4, 0]);
    expect((await sizes()).slice(0, 3)).toEqual([2, 6, 12]);
  });

  it('is all that anybody can remove', async () => {
    for (const size of [6, 24, 25, 30]) {
      const sql = `delete from public.log_checkpoint where size = ${String(size)}`;
      await expect(owner(sql)).rejects.toMatchObject({ code: 'TF004' });
    }
    await expect(
      test.store().pool.query('delete from public.log_checkpoint where size = 1'),
    ).rejects.toMatchObject({ code: '42501' });
    expect(await sizes()).toHaveLength(30);
  });
};
onEachMajor('checkpoints of old hours', thinning);
