import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { LaneLost } from '../../src/outcome.ts';
import { editedAsOwner } from '../audit/sequenced-log.ts';
import { withOwner } from './owner.ts';
import { onEachMajor } from './majors.ts';
import type { TestStore } from './majors.ts';
import { auditQuery, batch, bytes, changer, entry, openInstance, rejection } from './samples.ts';

const laneLost = (reason: string) => expect.objectContaining({ name: 'LaneLost', reason });

const appends = (test: TestStore): void => {
  let lane = 0;
  let epoch = 0;
  const audit = () => test.store().audit;
  beforeEach(async () => {
    const instance = await openInstance(test.store());
    lane = await audit().openLane(instance, 'use');
    ({ epoch } = await test.store().instances.beat(instance, 0));
  });
  const next = (first: number, entries = [entry()]) => batch(lane, first, { epoch, entries });

  it('stores every byte, and the HMAC beside the first entry alone', async () => {
    const sent = next(1, [entry(), entry(new Uint8Array(0)), entry(bytes(65_535))]);
    expect(await audit().append(sent)).toEqual({ epoch });
    for (const [at, { leaf, body, index }] of sent.entries.entries()) {
      const stored = { lane, n: at + 1, leaf, body, columns: index };
      expect(await audit().entry(lane, at + 1)).toEqual(stored);
    }
    const { rows } = await test
      .store()
      .pool.query<{ batch_hmac: Buffer | null }>(
        'select batch_hmac from public.entry where lane = $1 order by n',
        [lane],
      );
    expect(rows.map((row) => row.batch_hmac?.toString('hex'))).toEqual([
      Buffer.from(sent.hmac).toString('hex'),
      undefined,
      undefined,
    ]);
    expect(await audit().leafAt(lane, 4)).toBeNull();
  });

  it('answers the same batch again with its epoch and writes nothing', async () => {
    const sent = next(1, [entry(), entry()]);
    await audit().append(sent);
    expect(await audit().append(sent)).toEqual({ epoch });
    expect(await audit().leafAt(lane, 3)).toBeNull();
  });

  it('answers the same batch sent at the same time twice', async () => {
    const sent = next(1, [entry(), entry()]);
    const answers = await Promise.all([audit().append(sent), audit().append(sent)]);
    expect(answers).toEqual([{ epoch }, { epoch }]);
  });

  it('answers a batch that did commit although the epoch has moved on and the lane is closed', async () => {
    const sent = next(1);
    await audit().append(sent);
    await (await changer(test.store())).commit([]);
    await audit().closeLane(lane);
    expect(await audit().append(sent)).toEqual({ epoch });
  });

  it('refuses another epoch with the current one and writes nothing', async () => {
    const now = await (await changer(test.store())).commit([]);
    expect(await audit().append(next(1))).toEqual({ stale: now });
    expect(await audit().append({ ...next(1), epoch: now + 1 })).toEqual({ stale: now });
    expect(await audit().leafAt(lane, 1)).toBeNull();
  });

  it('confirms the epoch as appends hold it, writing nothing, for an instance that is open', async () => {
    const instance = await openInstance(test.store());
    expect(await audit().confirm(epoch, instance)).toEqual({ epoch });
    const now = await (await changer(test.store())).commit([]);
    expect(await audit().confirm(epoch, instance)).toEqual({ stale: now });
    expect(await audit().confirm(now, instance)).toEqual({ epoch: now });
    await expect(audit().confirm(now, randomUUID())).rejects.toBeDefined();
    // A change under way holds it up, until the change has ended one way or the other.
    const order: string[] = [];
    await withOwner(test.database(), async (owner) => {
      await owner.query('begin');
      await owner.query('select public.take_barrier()');
      const confirmed = audit()
        .confirm(now, instance)
        .then(() => order.push('confirmed'));
      await sleep(200);
      order.push('change');
      await owner.query('rollback');
      await confirmed;
    });
    expect(order).toEqual(['change', 'confirmed']);
  });

  it('compares epochs before leaves and closing', async () => {
    await audit().append(next(1));
    const now = await (await changer(test.store())).commit([]);
    expect(await audit().append(next(1))).toEqual({ stale: now });
    await audit().closeLane(lane);
    expect(await audit().append(next(2))).toEqual({ stale: now });
  });

  it.each([
    ['another leaf at the first place', 1, 1],
    ['another leaf at a later place', 2, 2],
  ])('loses the lane over %s, and writes nothing of the batch', async (_, first, count) => {
    await audit().append(next(1, [entry(), entry(), entry()]));
    const other = next(
      first,
      Array.from({ length: count + 3 }, () => entry()),
    );
    expect(await rejection(audit().append(other))).toEqual(laneLost('conflict'));
    expect(await audit().leafAt(lane, 4)).toBeNull();
  });

  it('loses the lane over a batch whose beginning alone is there', async () => {
    const kept = entry();
    await audit().append(next(1, [kept]));
    const longer = rejection(audit().append(next(1, [kept, entry()])));
    expect(await longer).toEqual(laneLost('conflict'));
  });

  it('takes no leaf of another length', async () => {
    for (const leaf of [bytes(31), bytes(33), new Uint8Array(0)]) {
      const error = await rejection(audit().append(next(1, [entry(), { ...entry(), leaf }])));
      expect(error).toBeInstanceOf(Error);
      expect(await audit().leafAt(lane, 1)).toBeNull();
    }
    expect(await audit().append(next(1))).toEqual({ epoch });
  });

  it('refuses a closed lane, twice closed or not', async () => {
    await audit().closeLane(lane);
    await audit().closeLane(lane);
    const error = await rejection(audit().append(next(1)));
    expect(error).toBeInstanceOf(LaneLost);
    expect(error).toEqual(laneLost('closed'));
  });

  it('calls a lane lost whose tail is gone, or that is not there', async () => {
    const gap = rejection(audit().append(next(2)));
    expect(await gap).toEqual(laneLost('gone'));
    const unknown = rejection(audit().append({ ...next(1), lane: 2_000_000 }));
    expect(await unknown).toEqual(laneLost('gone'));
    expect(await rejection(audit().openLane(randomUUID(), 'use'))).toMatchObject({
      // As of an instance whose row was removed.
      code: 'database_unavailable',
    });
  });

  it('stores an entry whatever characters its subject has', async () => {
    const hostile = `a\0b\ud800"\\{}',\n\u{1f512}`;
    await audit().append(next(1, [entry(bytes(3), { subject: hostile, keyRef: hostile })]));
    const { entries: found } = await audit().entries(
      auditQuery({ subject: hostile, keyRef: hostile }),
    );
    expect(found.map(({ n }) => n)).toEqual([1]);
    await audit().closeLane(lane);
    const other = await audit().entries(auditQuery({ subject: hostile, keyRef: 'other' }));
    expect(other).toEqual({ entries: [], next: null });
  });

  it('makes a partition for every 1,024 lanes while others append', async () => {
    await withOwner(test.database(), (owner) =>
      owner.query(
        `select setval('public.lane_id_seq', greatest(nextval('public.lane_id_seq') / 1024 * 1024 + 1022, 1022))`,
      ),
    );
    const instance = await openInstance(test.store());
    const busy = { ended: false, last: 0 };
    const appending = (async () => {
      while (!busy.ended) {
        busy.last += 1;
        expect(await audit().append(next(busy.last))).toEqual({ epoch });
      }
    })();
    const lanes = await Promise.all(
      Array.from({ length: 6 }, () => audit().openLane(instance, 'use')),
    );
    expect(new Set(lanes.map((id) => Math.floor(id / 1024))).size).toBe(2);
    const answers = await Promise.all(lanes.map((id) => audit().append({ ...next(1), lane: id })));
    expect(answers).toEqual(lanes.map(() => ({ epoch })));
    busy.ended = true;
    await appending;
    expect(await audit().leafAt(lane, busy.last)).not.toBeNull();
  });
};

const isolation = (test: TestStore): void => {
  it('refuses the barrier outside READ COMMITTED, where its snapshot would be too old', async () => {
    const client = await test.store().pool.connect();
    try {
      await client.query('begin isolation level repeatable read');
      const refused = client.query(
        `select public.append(1, 1, 1, null, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`,
      );
      expect(await rejection(refused)).toMatchObject({ code: 'TF005' });
    } finally {
      client.release(true);
    }
  });
};

const queries = (test: TestStore): void => {
  const audit = () => test.store().audit;

  it('pages newest first over all lanes and finds every entry once', async () => {
    const instance = await openInstance(test.store());
    const { epoch } = await test.store().instances.beat(instance, 0);
    const namespace = 'default';
    const subject = randomUUID();
    const sent: { at: number; lane: number; n: number }[] = [];
    for (let count = 0; count < 3; count += 1) {
      const lane = await audit().openLane(instance, 'use');
      // Few distinct times, so that the order has to be settled by lane and number.
      const entries = Array.from({ length: 7 }, (_, at) =>
        entry(bytes(8), { subject, namespace, at: new Date(1_700_000_000_000 + (at % 3)) }),
      );
      await audit().append(batch(lane, 1, { epoch, entries }));
      entries.forEach(({ index }, at) => sent.push({ at: index.at.getTime(), lane, n: at + 1 }));
    }
    const expected = sent
      .toSorted((a, b) => b.at - a.at || b.lane - a.lane || b.n - a.n)
      .map(({ lane, n }) => `${lane}-${n}`);
    const seen: string[] = [];
    for (let after: { lane: number; n: number } | null = null; ;) {
      const page = await audit().entries(auditQuery({ subject, pageSize: 4, after }));
      seen.push(...page.entries.map(({ lane, n }) => `${lane}-${n}`));
      after = page.next;
      if (after === null) break;
    }
    expect(seen).toEqual(expected);
  });

  it('refuses a cursor that names no entry', async () => {
    const page = audit().entries(auditQuery({ after: { lane: 1, n: 999_999 } }));
    expect(await rejection(page)).toMatchObject({ code: 'invalid_value' });
  });

  it('refuses every other cursor, whatever it is', async () => {
    const place = fc.oneof(
      fc.constantFrom(NaN, Infinity, -Infinity, -1, 0.5, 2 ** 31, 2 ** 53, 1e300),
      fc.double(),
      fc.maxSafeInteger(),
    );
    await fc.assert(
      fc.asyncProperty(place, place, async (lane, n) => {
        const page = audit().entries(auditQuery({ after: { lane, n } }));
        expect(await rejection(page)).toMatchObject({ code: 'invalid_value' });
      }),
      { numRuns: 50, interruptAfterTimeLimit: 2_000 },
    );
  });

  it.each(['infinity', '-infinity'])('refuses one of an entry whose time became %s', async (at) => {
    const instance = await openInstance(test.store());
    const { epoch } = await test.store().instances.beat(instance, 0);
    const lane = await audit().openLane(instance, 'use');
    const subject = randomUUID();
    const entries = Array.from({ length: 3 }, () => entry(bytes(8), { subject }));
    await audit().append(batch(lane, 1, { epoch, entries }));
    const { next } = await audit().entries(auditQuery({ subject, pageSize: 1 }));
    const sql = 'update public.entry set at = $1 where lane = $2 and n = $3';
    await editedAsOwner(test.database(), sql, [at, lane, next?.n]);
    const page = audit().entries(auditQuery({ subject, pageSize: 1, after: next }));
    expect(await rejection(page)).toMatchObject({ code: 'invalid_value' });
  });

  it('filters by each column, exactly', async () => {
    const instance = await openInstance(test.store());
    const { epoch } = await test.store().instances.beat(instance, 0);
    const lane = await audit().openLane(instance, 'use');
    const subject = randomUUID();
    const keyId = randomUUID();
    const at = new Date('2026-01-02T03:04:05.678Z');
    const odd = {
      namespace: 'other',
      operation: 'sign',
      keyId,
      keyRef: 'k_',
      outcome: 'forbidden',
      at,
    };
    const entries = [entry(bytes(8), { subject }), entry(bytes(8), { subject, ...odd })];
    await audit().append(batch(lane, 1, { epoch, entries }));
    const found = async (over: Parameters<typeof auditQuery>[0]) =>
      (await audit().entries(auditQuery({ subject, ...over }))).entries.map(({ n }) => n);
    expect(await found({})).toEqual([1]);
    const other = { namespace: 'other' };
    for (const name of ['namespace', 'operation', 'keyId', 'keyRef', 'outcome'] as const) {
      expect(await found({ ...other, [name]: odd[name] })).toEqual([2]);
      if (name !== 'namespace') expect(await found({ [name]: odd[name] })).toEqual([]);
    }
    expect(await found({ ...other, keyRef: 'k%' })).toEqual([]);
    expect(await found({ ...other, from: at, until: new Date(at.getTime() + 1) })).toEqual([2]);
    expect(await found({ ...other, until: at })).toEqual([]);
    expect(await found({ ...other, from: new Date(at.getTime() + 1) })).toEqual([]);
    expect(await found({ from: new Date(at.getTime() + 1) })).toEqual([1]);
  });

  it('lists the changes since an epoch with what they concern', async () => {
    const changes = await changer(test.store());
    const keyId = randomUUID();
    const scope = { scope: 'key', namespace: 'default', keyId, keyName: 'name' } as const;
    const first = await changes.commit([], { scope });
    const access = { scope: 'access', namespace: 'default', keyId: null, keyName: null } as const;
    const second = await changes.commit([], { scope: access });
    expect(second).toBe(first + 1);
    expect(await audit().changesSince(first - 1)).toEqual([
      { epoch: first, ...scope, also: [] },
      { epoch: second, ...access, also: [] },
    ]);
    expect(await audit().changesSince(second)).toEqual([]);
    expect(await audit().leafAt(changes.lane, 2)).not.toBeNull();
  });
};

onEachMajor('audit store', (test) => {
  describe('append', () => appends(test));
  describe('isolation', () => isolation(test));
  describe('queries', () => queries(test));
});
