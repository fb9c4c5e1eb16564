import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { ownUnplaced, seal } from '../../src/audit/batch.ts';
import { Refusals, isRefusal } from '../../src/audit/grace/loss.ts';
import type { GraceStore } from '../../src/audit/grace/ports.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { commitParameters } from '../../src/store/key-commit.ts';
import { LIVE_SECONDS } from '../../src/store/instance-store.ts';
import { softwareMac } from '../audit/memory-store.ts';
import { onEachMajor } from './majors.ts';
import { withOwner } from './owner.ts';
import { batch, changer, entry, insert, key, openInstance, rejection } from './samples.ts';

onEachMajor('instance store', (test) => {
  const instances = () => test.store().instances;
  const open = async (suites: readonly number[], envelopes: readonly number[] = [1]) => {
    const id = randomUUID();
    await instances().open({ id, zone: 'b', suites, envelopes, graceMs: 0 });
    return id;
  };
  const set = (id: string, assignment: string) =>
    withOwner(test.database(), (owner) =>
      owner.query(`update public.instance set ${assignment} where id = $1`, [id]),
    );

  it('tells the epoch and whether it is fenced', async () => {
    const id = await open([1]);
    const { epoch } = await instances().beat(id, 0);
    expect(await (await changer(test.store())).commit([])).toBe(epoch + 1);
    expect(await instances().beat(id, epoch)).toEqual({ epoch: epoch + 1, beat: 2, fenced: false });
    await set(id, 'fenced = true');
    expect(await instances().beat(id, epoch + 1)).toEqual({
      epoch: epoch + 1,
      beat: 3,
      fenced: true,
    });
  });

  it('remembers the highest epoch that an instance has confirmed', async () => {
    const id = await open([1]);
    await instances().beat(id, 40);
    await instances().beat(id, 39);
    const { rows } = await test
      .store()
      .pool.query<{ beat: string; epoch_seen: string }>(
        'select beat, epoch_seen from public.instance where id = $1',
        [id],
      );
    expect(rows).toEqual([{ beat: '2', epoch_seen: '40' }]);
  });

  it('tells what every live instance has confirmed; closed, fenced and silent ones do not count', async () => {
    await withOwner(test.database(), (owner) =>
      owner.query('update public.instance set closed = true where not closed'),
    );
    const { epoch } = await instances().confirmed();
    expect(await instances().confirmed()).toEqual({ epoch, least: epoch });
    await instances().beat(await open([1]), epoch);
    for (const gone of [
      'closed = true',
      'fenced = true',
      `beat_at = clock_timestamp() - interval '${String(LIVE_SECONDS + 1)} seconds'`,
      `epoch_seen = ${String(epoch)}`,
    ]) {
      const behind = await open([1]);
      // One begins with the epoch that it opens under.
      await set(behind, `epoch_seen = ${String(epoch - 1)}`);
      expect(await instances().confirmed()).toEqual({ epoch, least: epoch - 1 });
      await set(behind, gone);
      expect(await instances().confirmed()).toEqual({ epoch, least: epoch });
    }
  });

  it('finds no row of an instance that is closed or was never opened', async () => {
    const id = await openInstance(test.store());
    const { epoch } = await instances().beat(id, 0);
    await instances().close(id);
    await instances().close(id);
    const none = { epoch, beat: null, fenced: false };
    expect(await instances().beat(id, 0)).toEqual(none);
    expect(await instances().beat(randomUUID(), 0)).toEqual(none);
  });

  it('that has long not beaten goes, whatever its end was, and no younger one does', async () => {
    const DAY = 86_400_000;
    const aged = async (days: number, more = '') => {
      const id = await openInstance(test.store());
      await set(id, `beat_at = clock_timestamp() - interval '${days} days'${more}`);
      return id;
    };
    const old = [
      await aged(31, ', closed = true'),
      await aged(31, ', fenced = true'),
      await aged(31),
    ];
    const young = [await aged(29, ', closed = true'), await aged(0)];
    const standing = async () => {
      const all = [...old, ...young];
      const { rows } = await test
        .store()
        .pool.query<{ id: string }>('select id from public.instance where id = any ($1)', [all]);
      return rows.map(({ id }) => id).toSorted();
    };
    const before = new Date(Date.now() - 30 * DAY);
    expect(await instances().expire(before, 2)).toBe(2);
    expect(await instances().expire(before, 2)).toBe(1);
    expect(await instances().expire(before, 2)).toBe(0);
    expect(await standing()).toEqual(young.toSorted());
    // Nor does one go that has beaten within a day, whatever is asked for.
    expect(await instances().expire(new Date(Date.now() + DAY), 100)).toBe(1);
    expect(await standing()).toEqual([young[1]]);
    const [gone = ''] = old;
    expect((await instances().beat(gone, 0)).beat).toBeNull();
    expect(await rejection(test.store().audit.openLane(gone, 'use'))).toMatchObject({
      code: 'database_unavailable',
    });
  });

  it.each(['fenced', 'closed'])('takes nothing more from an instance that is %s', async (end) => {
    const { audit, keys } = test.store();
    const id = await openInstance(test.store());
    const lane = await audit.openLane(id, 'use');
    const changes = await changer(test.store());
    const { epoch } = await instances().beat(id, 0);
    const sent = batch(lane, 1, { epoch });
    await audit.append(sent);
    await set(id, `${end} = true`);
    await set(changes.instance, `${end} = true`);
    const refused = { code: 'database_unavailable' };
    expect(await rejection(audit.append(batch(lane, 2, { epoch })))).toMatchObject(refused);
    expect(await rejection(audit.openLane(id, 'use'))).toMatchObject(refused);
    const change = await changes.change(insert(key()), { epoch });
    const error = await rejection(keys.commit(change));
    expect(error).toMatchObject(refused);
    expect(error).not.toBeInstanceOf(OutcomeUnknown);
    expect(await audit.leafAt(lane, 2)).toBeNull();
    expect(await audit.leafAt(changes.lane, 1)).toBeNull();
    // What had been written before is answered as what it is.
    expect(await audit.append(sent)).toEqual({ epoch });
  });

  it('of a zone that is removed takes nothing more once its administrator has run what the runbook says', async () => {
    const page = readFileSync(new URL('../../deploy/zones-runbooks.md', import.meta.url), 'utf8');
    const [, statement = ''] = /```sh end\n.*--command="(.+)"\n```/u.exec(page) ?? [];
    const opened = async (zone: string, graceMs = 0) => {
      const id = randomUUID();
      await instances().open({ id, zone, suites: [1], envelopes: [1], graceMs });
      return { id, lane: await test.store().audit.openLane(id, 'use') };
    };
    const [gone, holder, other] = [
      await opened('zone-3'),
      await opened('zone-3', 30_000),
      await opened('zone-2'),
    ];
    // What the next change does for it: nothing, while it can be reached.
    await (await changer(test.store())).commit([]);
    const { epoch } = await instances().beat(gone.id, 0);
    expect(await test.store().audit.append(batch(gone.lane, 1, { epoch }))).toEqual({ epoch });
    await withOwner(test.database(), (owner) => owner.query(statement));
    for (const [{ id, lane }, n] of [
      [gone, 2],
      [holder, 1],
    ] as const) {
      expect((await instances().beat(id, epoch)).fenced).toBe(true);
      expect(await rejection(test.store().audit.append(batch(lane, n, { epoch })))).toMatchObject({
        code: 'database_unavailable',
      });
      expect(await rejection(test.store().audit.confirm(epoch, id))).toMatchObject({
        code: 'database_unavailable',
      });
    }
    expect((await instances().beat(other.id, epoch)).fenced).toBe(false);
    expect(await test.store().audit.append(batch(other.lane, 1, { epoch }))).toEqual({ epoch });
  });

  describe('with a grace', () => {
    const openHolder = async (graceMs = 30_000) => {
      const id = randomUUID();
      await instances().open({ id, zone: 'g', suites: [1], envelopes: [1], graceMs });
      return id;
    };
    const end = (id: string) => instances().close(id);
    const holders = async () => {
      const { epoch, holders: all } = await test.store().grace.holders();
      return { epoch, ids: all.map(({ id }) => id).toSorted() };
    };
    const fence = (epoch: number, ids: readonly string[]) => test.store().grace.fence(epoch, ids);
    const replay = (what: Parameters<GraceStore['replay']>[0]) => test.store().grace.replay(what);
    const isFenced = async (id: string) => (await instances().beat(id, 0)).fenced;

    it('a change knows whether it has to wait, and for whom', async () => {
      const changes = await changer(test.store());
      const held = async () => test.store().keys.commit(await changes.change([]));
      expect(await held()).toMatchObject({ held: false });
      const id = await openHolder();
      const again = await changer(test.store());
      const outcome = await test.store().keys.commit(await again.change([]));
      if ('stale' in outcome) throw new Error('stale');
      expect(outcome.held).toBe(true);
      expect(await holders()).toEqual({ epoch: outcome.epoch, ids: [id] });
      expect(await test.store().instances.confirmed()).toMatchObject({ epoch: outcome.epoch });
      // However silent it is, it counts, for no clock of the database says what it may do.
      await set(id, `beat_at = now() - interval '1 hour'`);
      await withOwner(test.database(), (owner) =>
        owner.query('update public.instance set closed = true where id <> $1', [id]),
      );
      expect((await test.store().instances.confirmed()).least).toBe(outcome.epoch - 1);
      await instances().closeDead(id);
      expect((await holders()).ids).toEqual([id]);
      await instances().beat(id, outcome.epoch);
      expect((await holders()).ids).toEqual([]);
      await end(id);
    });

    it('takes no change of a program from before the grace while one is held', async () => {
      const before =
        'select public.commit_change($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)';
      const commit = async () => {
        const parameters = commitParameters(await (await changer(test.store())).change([]));
        return test.store().pool.query(before, [...parameters]);
      };
      const epochNow = async () => (await instances().confirmed()).epoch;
      await commit();
      const epoch = await epochNow();
      const id = await openHolder();
      await expect(commit()).rejects.toMatchObject({ code: '55P03' });
      expect(await epochNow()).toBe(epoch);
      // One that asks is let through on the same connections, and lets none of the others through.
      expect(await (await changer(test.store())).commit([])).toBe(epoch + 1);
      await expect(commit()).rejects.toMatchObject({ code: '55P03' });
      await end(id);
      await commit();
      expect(await epochNow()).toBe(epoch + 2);
    });

    it('fences who has not told the epoch, and nobody else', async () => {
      const [silent, told, without] = [await openHolder(), await openHolder(), await open([1])];
      const epoch = await (await changer(test.store())).commit([]);
      await instances().beat(told, epoch);
      await fence(epoch, [silent, told, without]);
      expect([await isFenced(silent), await isFenced(told), await isFenced(without)]).toEqual([
        ...[true, false, false],
      ]);
      expect((await holders()).ids).not.toContain(silent);
      // Nor for an epoch that is still to come.
      await fence(epoch + 1, [told]);
      expect(await isFenced(told)).toBe(false);
      for (const id of [silent, told, without]) await end(id);
    });

    it('a heartbeat and a fence that meet: one of them is first', async () => {
      for (let round = 0; round < 20; round += 1) {
        const id = await openHolder();
        const epoch = await (await changer(test.store())).commit([]);
        const [beat] = await Promise.all([instances().beat(id, epoch), fence(epoch, [id])]);
        expect(beat.fenced).toBe(await isFenced(id));
        await end(id);
      }
    });

    it('stays until it is known to have ended, however old it is', async () => {
      const id = await openHolder();
      await set(id, `beat_at = now() - interval '40 days'`);
      await instances().expire(new Date(), 100);
      expect((await instances().beat(id, 0)).beat).not.toBeNull();
      await set(id, `beat_at = now() - interval '40 days', fenced = true`);
      await instances().expire(new Date(), 100);
      expect((await instances().beat(id, 0)).beat).toBeNull();
    });

    it('replays entries once, after a fence too, and only where they belong', async () => {
      const id = await openHolder();
      const { audit } = test.store();
      const lane = await audit.openLane(id, 'use');
      const { epoch } = await instances().beat(id, 0);
      const first = batch(lane, 1, { epoch });
      await audit.append(first);
      const spooled = [
        batch(lane, 2, { epoch, entries: [entry(), entry()] }),
        batch(lane, 4, { epoch }),
      ];
      const later = await (await changer(test.store())).commit([]);
      await fence(later, [id]);
      expect(await replay({ instance: id, lane, batches: [first, ...spooled.slice(0, 1)] })).toBe(
        later,
      );
      for (let round = 0; round < 2; round += 1) {
        expect(await replay({ instance: id, lane, batches: spooled })).toBe(later);
      }
      const { rows } = await test
        .store()
        .pool.query<{ n: string; marked: boolean }>(
          'select n, batch_hmac is not null as marked from public.entry where lane = $1 order by n',
          [lane],
        );
      expect(rows.map(({ n, marked }) => [Number(n), marked])).toEqual([
        [1, true],
        [2, true],
        [3, false],
        [4, true],
      ]);
      const lost = async (batches: Parameters<typeof replay>[0]['batches'], instance = id) =>
        rejection(replay({ instance, lane, batches }));
      expect(await lost([batch(lane, 4, { epoch })])).toMatchObject({ reason: 'conflict' });
      expect(await lost([batch(lane, 9, { epoch })])).toMatchObject({ reason: 'gone' });
      expect(await lost([batch(lane, 5, { epoch })], randomUUID())).toMatchObject({
        reason: 'gone',
      });
      await audit.closeLane(lane);
      expect(await lost([batch(lane, 5, { epoch })])).toMatchObject({ reason: 'closed' });
      expect(await replay({ instance: id, lane, batches: spooled })).toBe(later);
    });

    it('a replay that the server itself fails, however often, is no refusal of what was answered', async () => {
      const id = await openHolder();
      const { audit } = test.store();
      const lane = await audit.openLane(id, 'use');
      const { epoch } = await instances().beat(id, 0);
      const origin = { zone: 'z', instance: id, at: new Date() };
      const begin = { lane, next: 1, previous: new Uint8Array(32) };
      const entries = [ownUnplaced('lane.probe', {}, origin)];
      const { batch: sent } = await seal(softwareMac, begin, epoch, entries);
      const batches = [sent];
      const asOwner = (sql: string) => withOwner(test.database(), (owner) => owner.query(sql));
      const failWith = (state: string) =>
        asOwner(`create or replace function public.failing() returns trigger language plpgsql as
          $$ begin raise exception using errcode = '${state}'; end $$`);
      const refusals = new Refusals(audit);
      const isLost = async () =>
        refusals.end(await rejection(replay({ instance: id, lane, batches })), batches);
      await failWith('53200');
      await asOwner(`create trigger failing before insert on public.entry
        for each row execute function public.failing()`);
      try {
        for (const state of ['53200', '55000', '57P04', '58030', 'XX001']) {
          await failWith(state);
          for (let time = 1; time <= 10; time += 1)
            expect([state, await isLost()]).toEqual([state, false]);
        }
        // What the content brings about is one.
        await failWith('22003');
        expect(isRefusal(await rejection(replay({ instance: id, lane, batches })))).toBe(true);
      } finally {
        await asOwner('drop function public.failing cascade');
      }
      expect(await replay({ instance: id, lane, batches })).toBe(epoch);
    });

    it('a replay and a late append of the same entries: each stands once', async () => {
      const id = await openHolder();
      const { audit } = test.store();
      const lane = await audit.openLane(id, 'use');
      for (let n = 1; n <= 20; n += 1) {
        const { epoch } = await instances().beat(id, 0);
        const sent = batch(lane, n, { epoch });
        const both = [audit.append(sent), replay({ instance: id, lane, batches: [sent] })];
        expect(await Promise.all(both)).toEqual([{ epoch }, epoch]);
      }
      await end(id);
    });
  });

  it('lets a suite be written once every live instance reads it', async () => {
    await withOwner(test.database(), (owner) =>
      owner.query('update public.instance set closed = true where not closed'),
    );
    const asking = await open([7, 8], [1, 2]);
    const allRead = (suite: number, envelope: number) =>
      instances().allRead({ suite, envelope }, { id: asking, silentMs: 0 });
    expect(await allRead(7, 2)).toBe(true);
    const old = await open([7]);
    expect(await allRead(7, 1)).toBe(true);
    expect(await allRead(8, 1)).toBe(false);
    expect(await allRead(7, 2)).toBe(false);
    for (const [gone, back] of [
      ['fenced = true', 'fenced = false'],
      [`beat_at = now() - interval '${LIVE_SECONDS + 1} s'`, 'beat_at = now()'],
    ] as const) {
      await set(old, gone);
      expect(await allRead(8, 2)).toBe(true);
      await set(old, back);
      expect(await allRead(8, 2)).toBe(false);
    }
    await instances().close(old);
    expect(await allRead(8, 2)).toBe(true);
  });

  it('says nothing of the others to who is not live, as nobody is when an outage ends', async () => {
    await withOwner(test.database(), (owner) =>
      owner.query('update public.instance set closed = true where not closed'),
    );
    const [asking, old] = [await open([7, 8]), await open([7])];
    const allRead = (silentMs: number) =>
      instances().allRead({ suite: 8, envelope: 1 }, { id: asking, silentMs });
    const silent = `beat_at = clock_timestamp() - interval '1 hour'`;
    await withOwner(test.database(), (owner) =>
      owner.query(`update public.instance set ${silent}`),
    );
    expect(await rejection(allRead(0))).toMatchObject({ code: 'database_unavailable' });
    await instances().beat(asking, 0);
    // It knows for how long it was kept from beating itself: who was live then may be so again.
    expect(await allRead(3_600_000)).toBe(false);
    expect(await allRead(3_500_000)).toBe(true);
    await instances().beat(old, 0);
    expect(await allRead(0)).toBe(false);
    for (const end of ['fenced = true', 'closed = true']) {
      await set(asking, end);
      expect(await rejection(allRead(0))).toMatchObject({ code: 'database_unavailable' });
    }
  });
});
