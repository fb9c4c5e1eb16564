/** Sealed sets on a real database: found when altered, in force at once, never the same revision twice. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { SealedSet, requireMatch } from '../../src/governance/sealed-set.ts';
import type { SetDone, SetKind, SetRun, SetView } from '../../src/governance/sealed-set.ts';
import { readInteger } from '../../src/governance/stored-json.ts';
import { aRun, codeOf } from '../keyring/world.ts';
import { openStage } from '../rotation/stage.ts';
import type { Actor, Stage } from '../rotation/stage.ts';
import { rowsAsOwner } from '../store/owner.ts';

interface Sample {
  readonly n: number;
}

const kindOf = (kind: string, reach: SetKind<Sample>['reach'] = 'namespace'): SetKind<Sample> => ({
  kind,
  most: 5,
  reach,
  toJson: ({ n }) => ({ n, nested: [{ text: 'é\u{1f511}', none: null, yes: true }] }),
  fromJson: (json) => ({ n: readInteger(json, 'n') }),
});

let stage: Stage;
let first: Actor;
let second: Actor;
beforeAll(async () => {
  stage = await openStage();
  first = stage.first;
  second = await stage.another();
}, 60_000);
afterAll(() => stage.stop(), 60_000);
beforeEach(() => first.governing.refreshEpoch());

const asOwner = <T = unknown>(sql: string, values: unknown[] = []): Promise<T[]> =>
  rowsAsOwner<T>(stage.database, sql, values);
const run = (changes: Partial<SetRun<Sample>> = {}): SetRun<Sample> => ({
  ...aRun(),
  render: ({ revision }) => ({ status: 200, body: String(revision) }),
  ...changes,
});

/** The set as it stands in the database, for later: what puts it back, as who has the database can. */
async function kept(kind: string): Promise<() => Promise<void>> {
  const copies = `public.kept_${kind.replaceAll('-', '_')}_${String((keptCount += 1))}`;
  for (const table of ['member', 'seal']) {
    await asOwner(`create table ${copies}_${table} as table public.set_${table} with no data`);
    const sql = `insert into ${copies}_${table} select * from public.set_${table} where kind = $1`;
    await asOwner(sql, [kind]);
  }
  return async () => {
    for (const table of ['member', 'seal']) {
      await asOwner(`delete from public.set_${table} where kind = $1`, [kind]);
      await asOwner(`insert into public.set_${table} select * from ${copies}_${table}`);
    }
  };
}
let keptCount = 0;

/** As nobody but the owner of the tables can: the history is cut short. */
async function cutHistory(kind: string, after: number): Promise<void> {
  await asOwner('alter table public.set_history disable trigger user');
  await asOwner('delete from public.set_history where kind = $1 and revision > $2', [kind, after]);
  await asOwner('alter table public.set_history enable trigger user');
}

let count = 0;
/** A kind of its own, so that no test sees another's members. */
function fresh(reach?: SetKind<Sample>['reach']) {
  count += 1;
  const kind = kindOf(`sample-${String(count)}`, reach);
  const [ours, theirs] = [first, second].map(({ governing }) => new SealedSet(governing, kind));
  if (ours === undefined || theirs === undefined) throw new TypeError('two instances');
  const put = (
    entries: Readonly<Record<string, number | null>>,
    changes: Partial<SetRun<Sample>> = {},
    set = ours,
    actor = first,
  ): Promise<SetDone<Sample>> =>
    set.change(actor.grant('namespaces.change', null), run(changes), () => ({
      entries: new Map(
        Object.entries(entries).map(([name, n]) => [name, n === null ? null : { n }]),
      ),
      detail: {},
    }));
  return { kind: kind.kind, ours, theirs, put };
}
const shown = ({ members }: SetView<Sample>) =>
  [...members.values()].map(({ name, revision, value }) => [name, revision, value.n]);

describe('a sealed set', () => {
  it('has revisions that rise over all members, also after a deletion', async () => {
    const { ours, put } = fresh();
    expect(await ours.read('default')).toMatchObject({ revision: 0 });
    await put({ b: 1, a: 1 });
    await put({ a: null });
    await put({ a: 1 });
    expect(shown(await ours.read('default'))).toEqual([
      ['a', 3, 1],
      ['b', 1, 1],
    ]);
  });

  it('writes nothing where nothing changes', async () => {
    const { ours, put } = fresh();
    await put({ a: 1 });
    const done = await put({ a: 1, absent: null });
    expect(done.change).toMatchObject({ revision: 1, changes: [] });
    expect((await ours.read('default')).revision).toBe(1);
    expect(
      await ours.history({ namespace: 'default', name: null, before: null, pageSize: 9 }),
    ).toHaveLength(1);
  });

  it('holds no more members than its kind says', async () => {
    const { ours, put } = fresh();
    await put({ a: 1, b: 1, c: 1, d: 1, e: 1 });
    expect(await codeOf(put({ f: 1 }))).toBe('quota_exceeded');
    await put({ a: null, f: 1 });
    expect((await ours.read('default')).members.size).toBe(5);
  });

  it('does nothing on a dry run, and shows what it would do', async () => {
    const { ours, put } = fresh();
    const done = await put({ a: 1 }, { dryRun: true });
    expect(done.change?.changes).toMatchObject([
      { name: 'a', before: null, after: { revision: 1 } },
    ]);
    expect((await ours.read('default')).revision).toBe(0);
  });

  it('is known to another instance as soon as that has learnt the change', async () => {
    const { theirs, put } = fresh();
    expect(shown(await theirs.of('default'))).toEqual([]);
    await put({ a: 1 });
    await second.governing.refreshEpoch();
    expect(shown(await theirs.of('default'))).toEqual([['a', 1, 1]]);
    expect(theirs.known('default')?.revision).toBe(1);
  });

  it('takes two changes at once one after the other', async () => {
    const { ours, theirs, put } = fresh();
    // The one that was overtaken is run again from its authorization, as the pipeline does.
    const insist = async (entries: Record<string, number>, set: typeof ours, actor: Actor) => {
      for (let attempt = 0; attempt < 10; attempt += 1) {
        const code = await put(entries, {}, set, actor).then(
          () => 'done',
          (error: unknown) => (error instanceof Error ? error.constructor.name : ''),
        );
        if (code === 'done') return;
        await actor.governing.refreshEpoch();
      }
      throw new Error('never done');
    };
    await Promise.all([insist({ a: 1 }, ours, first), insist({ b: 2 }, theirs, second)]);
    const view = await ours.read('default');
    expect(view.revision).toBe(2);
    expect([...view.members.keys()]).toEqual(['a', 'b']);
  });

  it('asks for the revision of what it changes', () => {
    const member = {
      name: 'a',
      revision: 7,
      at: new Date(),
      by: { issuer: 'i', subject: 's' },
      value: 1,
    };
    const codes = [
      [null, null],
      [7, member],
      [null, member],
      [6, member],
      [7, null],
    ].map(([ifMatch, before]) => {
      try {
        requireMatch({ ifMatch: ifMatch as number | null }, before as typeof member | null);
        return 'ok';
      } catch (error) {
        return (error as { code?: string }).code;
      }
    });
    expect(codes).toEqual(['ok', 'ok', 'precondition_required', 'etag_mismatch', 'etag_mismatch']);
  });
});

describe('the history of a set', () => {
  it('says what each revision changed, newest first, by pages and by name', async () => {
    const { ours, put } = fresh();
    await put({ a: 1, b: 2 });
    await put({ a: null });
    await put({ a: 3 });
    const query = { namespace: 'default', name: null, before: null, pageSize: 3 };
    const page = await ours.history(query);
    expect(page.map(({ name, revision, value }) => [revision, name, value?.n ?? null])).toEqual([
      [3, 'a', 3],
      [2, 'a', null],
      [1, 'b', 2],
    ]);
    const rest = await ours.history({ ...query, before: { revision: 1, name: 'b' } });
    expect(rest.map(({ name }) => name)).toEqual(['a']);
    const ofB = await ours.history({ ...query, name: 'b' });
    expect(ofB.map(({ revision }) => revision)).toEqual([1]);
    expect(page[0]?.by).toEqual({ issuer: 'urn:example:issuer', subject: 'alice' });
  });

  it('gives every earlier state back, whatever was changed', async () => {
    const step = fc.dictionary(
      fc.constantFrom('a', 'b', 'c'),
      fc.option(fc.integer({ min: 0, max: 3 })),
      {
        minKeys: 1,
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
        const { ours, put } = fresh();
        const states: unknown[] = [[]];
        for (const entries of steps) {
          await put(entries);
          const view = await ours.read('default');
          states[view.revision] = shown(view);
        }
        for (const [revision, state] of states.entries()) {
          expect(shown(await ours.at('default', revision))).toEqual(state);
        }
      }),
      { numRuns: 8 },
    );
  }, 60_000);
});

describe('a set that is read on from where it was', () => {
  /** As an instance has it that counts how it reads. */
  function counting(kind: string, reach?: SetKind<Sample>['reach']) {
    const { sets } = first.governing;
    const reads = { set: 0, since: 0 };
    const set = new SealedSet(
      {
        ...first.governing,
        sets: {
          ...sets,
          set: (...given) => ((reads.set += 1), sets.set(...given)),
          since: (...given) => ((reads.since += 1), sets.since(...given)),
        },
      },
      kindOf(kind, reach),
    );
    return { set, reads };
  }

  it('is the one that another reads as a whole, whoever changed what, and in the same order', async () => {
    const names = fc.constantFrom('a', 'b', 'c', '\u{1f511}', '\uffee');
    const step = fc.dictionary(names, fc.option(fc.integer({ min: 0, max: 3 })), { minKeys: 1 });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
        const { kind, put } = fresh();
        const { set, reads } = counting(kind);
        let changes = 0;
        for (const [n, entries] of steps.entries()) {
          // Only every other state is seen, so that several changes are read at once.
          const { change } = await put(entries);
          changes += change?.changes.length ?? 0;
          if (n % 2 === 1) continue;
          const whole = await new SealedSet(first.governing, kindOf(kind)).read('default');
          expect(shown(await set.of('default'))).toEqual(shown(whole));
          expect((await set.read('default')).revision).toBe(whole.revision);
        }
        if (changes > 0) expect(reads.set).toBeLessThanOrEqual(1 + steps.length);
      }),
      { numRuns: 8 },
    );
  }, 60_000);

  it('reads no row again that was not written', async () => {
    const { kind, put } = fresh();
    const { set, reads } = counting(kind);
    await put({ a: 1, b: 1 });
    const before = await set.of('default');
    await put({ a: 2, c: 1 });
    await put({ c: null });
    await put({ c: 3 });
    const after = await set.of('default');
    expect(shown(after)).toEqual([
      ['a', 2, 2],
      ['b', 1, 1],
      ['c', 4, 3],
    ]);
    expect(after.members.get('b')).toBe(before.members.get('b'));
    expect(reads).toEqual({ set: 1, since: 1 });
    // Where nothing of it was changed it is the very same, and what stands on it stays.
    await fresh().put({ a: 1 });
    expect(await set.of('default')).toBe(after);
    expect(reads).toEqual({ set: 1, since: 2 });
  });

  it('is read once for all that ask at the same time', async () => {
    const { kind, put } = fresh();
    const { set, reads } = counting(kind);
    await put({ a: 1 });
    const views = await Promise.all(Array.from({ length: 20 }, () => set.of('default')));
    expect([new Set(views).size, reads.set]).toEqual([1, 1]);
    const early = set.read('default');
    await put({ a: 2 });
    const [late] = await Promise.all([set.of('default'), early]);
    expect(shown(late)).toEqual([['a', 2, 2]]);
  });

  it('is not read again for a change of policies, unless it is the one of policies', async () => {
    const { put } = fresh();
    const policies = { ...kindOf('policy'), toJson: ({ n }: Sample) => ({ n }) };
    const ofPolicies = new SealedSet(first.governing, policies);
    const { kind } = fresh();
    const { set, reads } = counting(kind);
    await put({ a: 1 });
    await set.of('default');
    await ofPolicies.of('default');
    const read = { ...reads };
    await put({ x: 1 }, {}, ofPolicies);
    expect(set.known('default')).toBeDefined();
    expect(ofPolicies.known('default')).toBeUndefined();
    await set.of('default');
    expect(reads).toEqual(read);
    await put({ a: 2 });
    expect(set.known('default')).toBeUndefined();
    await put({ x: null }, {}, ofPolicies);
  });

  it('is verified by its seal: nobody can feed it rows or a seal of their own', async () => {
    const { kind, ours, put } = fresh();
    await put({ a: 1, b: 2 });
    await ours.of('default');
    const restore = await kept(kind);
    const forged = (hash: string) => [
      `insert into set_history select kind, namespace, 2, 'b', at, author, null, mac from set_member
         where kind = $1 and name = 'b'`,
      `delete from set_member where kind = $1 and name = 'b'`,
      `update set_seal set revision = 2, hash = ${hash} where kind = $1`,
    ];
    for (const sql of forged(`sha256('x')`)) await asOwner(sql, [kind]);
    expect(await codeOf(ours.read('default'))).toBe('integrity_failed');
    await restore();
    await cutHistory(kind, 1);
    await first.keyring.integrity.recheck();
    expect(first.keyring.integrity.altered).toBe(0);
  });
});

describe('a set that was altered in the database', () => {
  const KINDS_OF_READING = ['whole', 'on'] as const;
  it.each(
    (
      [
        [
          'a member inserted',
          `insert into set_member select kind, namespace, 'z', revision, at, author, value, mac from set_member where kind = $1 and name = 'a'`,
        ],
        [
          'a member inserted whose value is null, as if it had been removed',
          `insert into set_member select kind, namespace, 'z', (select revision from set_seal where kind = $1),
             at, author, 'null', mac from set_member where kind = $1 and name = 'a'`,
        ],
        ['a member deleted', `delete from set_member where kind = $1 and name = 'b'`],
        [
          'a value changed',
          `update set_member set value = '{"n": 9}' where kind = $1 and name = 'a'`,
        ],
        [
          'an author changed',
          `update set_member set author = '["i", "mallory"]' where kind = $1 and name = 'a'`,
        ],
        [
          'a time changed',
          `update set_member set at = at + interval '1 day' where kind = $1 and name = 'a'`,
        ],
        [
          'a fraction put in',
          `update set_member set value = '{"n": 1.5}' where kind = $1 and name = 'a'`,
        ],
        [
          'a number that JSON writes as null put in its place',
          `update set_member set value = jsonb_set(value::jsonb, '{nested,0,none}', '1e400') where kind = $1 and name = 'a'`,
        ],
        ['its seal deleted', `delete from set_seal where kind = $1`],
        ['its seal raised', `update set_seal set revision = revision + 1 where kind = $1`],
        [
          'another hash sealed',
          `update set_seal set revision = revision + 1, hash = sha256('x') where kind = $1`,
        ],
        [
          'moved to another namespace',
          `update set_member set namespace = 'other' where kind = $1 and name = 'b'`,
        ],
      ] as const
    ).flatMap(([how, sql]) => KINDS_OF_READING.map((reading) => [how, reading, sql] as const)),
  )('is found: %s, read %s', async (_how, reading, sql) => {
    const { kind, ours, put } = fresh();
    await put({ a: 1, b: 2 });
    // What is remembered of rows as they were is no help to who alters them.
    if (reading === 'on') {
      await ours.of('default');
      await put({ c: 3 }, {}, new SealedSet(first.governing, kindOf(kind)));
    } else {
      await ours.read('default');
    }
    const restore = await kept(kind);
    await asOwner(sql, [kind]);
    expect(await codeOf(ours.read('default'))).toBe('integrity_failed');
    expect(first.keyring.integrity.altered).toBe(1);
    await asOwner('delete from public.set_member where kind = $1', [kind]);
    await restore();
    await first.keyring.integrity.recheck();
    expect(first.keyring.integrity.altered).toBe(0);
  });

  it('is found when an earlier member is put back', async () => {
    const { kind, ours, put } = fresh();
    await put({ a: 1 });
    await put({ a: 2 });
    const restore = await kept(kind);
    await asOwner(
      `update set_member m set value = h.value, mac = h.mac, revision = h.revision, at = h.at
       from set_history h where m.kind = $1 and h.kind = $1 and h.revision = 1`,
      [kind],
    );
    expect(await codeOf(ours.read('default'))).toBe('integrity_failed');
    await restore();
    await first.keyring.integrity.recheck();
  });

  const EARLIER = ['an earlier set', 'no set at all'] as const;
  describe.each(EARLIER)('as a whole to what once was genuine, %s', (earlier) => {
    /** Revision 3 of a set, and how it is turned back. */
    async function turnedBack() {
      const made = fresh();
      const none = await kept(made.kind);
      await made.put({ a: 1, b: 1 });
      await made.put({ a: 2 });
      const older = await kept(made.kind);
      await made.put({ a: null, c: 3 });
      const now = await kept(made.kind);
      return { ...made, back: earlier === 'an earlier set' ? older : none, now };
    }

    it('is found by every instance, whatever it knows, and reported until it is whole again', async () => {
      const { kind, ours, theirs, put, back, now } = await turnedBack();
      // One knows it, one goes on from what it knew, one has never seen it.
      await ours.of('default');
      await back();
      expect(await codeOf(ours.read('default'))).toBe('integrity_failed');
      expect(await codeOf(put({ d: 1 }))).toBe('integrity_failed');
      expect(await codeOf(theirs.read('default'))).toBe('integrity_failed');
      const started = new SealedSet(second.governing, kindOf(kind));
      expect(await codeOf(started.of('default'))).toBe('integrity_failed');
      expect([first, second].map(({ keyring }) => keyring.integrity.altered)).toEqual([1, 1]);
      await now();
      for (const { keyring } of [first, second]) {
        await keyring.integrity.recheck();
        expect(keyring.integrity.altered).toBe(0);
      }
      expect(shown(await started.of('default'))).toEqual([
        ['b', 1, 1],
        ['c', 3, 3],
      ]);
    });

    it('is found by an instance that knew better, with the history cut short too', async () => {
      const { kind, ours, put, back, now } = await turnedBack();
      await ours.of('default');
      await back();
      await cutHistory(kind, earlier === 'an earlier set' ? 2 : 0);
      expect(await codeOf(ours.read('default'))).toBe('integrity_failed');
      expect(await codeOf(put({ d: 1 }))).toBe('integrity_failed');
      expect(first.keyring.integrity.altered).toBe(1);
      // Nobody goes on from there by its own: what comes next would be below what it knew.
      await first.keyring.integrity.recheck();
      expect(first.keyring.integrity.altered).toBe(1);
      await now();
      await first.keyring.integrity.recheck();
      expect(first.keyring.integrity.altered).toBe(0);
    });
  });

  it('has a history that only grows, and is proven row by row', async () => {
    const { kind, ours, put } = fresh();
    await put({ a: 1 });
    for (const sql of [
      'update set_history set revision = 9 where kind = $1',
      'delete from set_history where kind = $1',
    ]) {
      await expect(asOwner(sql, [kind])).rejects.toMatchObject({ code: 'TF004' });
    }
    await asOwner(
      `insert into set_history select kind, namespace, 2, name, at, author, '{"n": 7}', mac
       from set_history where kind = $1`,
      [kind],
    );
    const query = { namespace: 'default', name: null, before: null, pageSize: 9 };
    expect(await codeOf(ours.history(query))).toBe('integrity_failed');
    expect(await codeOf(ours.at('default', 2))).toBe('integrity_failed');
    expect(shown(await ours.at('default', 1))).toEqual([['a', 1, 1]]);
  });
});
