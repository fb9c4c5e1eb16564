/** Whose row a start closes: that of a dead predecessor, never that of a process that runs on elsewhere. */
import { randomUUID } from 'node:crypto';
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, beforeEach, expect, it } from '@jest/globals';

import { ENVELOPE_VERSION } from '../../src/crypto/envelope.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { Incarnation } from '../../src/main/incarnation.ts';
import type { End } from '../../src/main/incarnation.ts';
import { Unwinding } from '../../src/main/unwinding.ts';
import { LIVE_SECONDS } from '../../src/store/instance-store.ts';
import { eventually } from '../store/eventually.ts';
import { onEmbedded } from '../store/majors.ts';
import { withOwner } from '../store/owner.ts';

onEmbedded('an incarnation', (test) => {
  let home: string;
  let unwindings: Unwinding[];
  let ends: End[];
  /** Whether a grace was over without a heartbeat, of each end. */
  let lapses: boolean[];
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'twofold-incarnation-'));
    unwindings = [];
    ends = [];
    lapses = [];
  });
  afterEach(async () => {
    for (const unwinding of unwindings) await unwinding.unwind();
    await rm(home, { recursive: true });
  });

  /** As a process does that is never stopped in order. */
  const start = (
    dataDir: string,
    among: { readonly worker?: number; readonly first?: boolean; readonly graceMs?: number } = {},
  ): Promise<Incarnation> => {
    const unwinding = new Unwinding(() => undefined);
    unwindings.push(unwinding);
    const { instances, audit: changes } = test.store();
    const onEnd = (end: End, lapsed: boolean) => {
      ends.push(end);
      lapses.push(lapsed);
    };
    const onTrouble = () => undefined;
    const options = { instances, changes, dataDir, zone: 'local', onTrouble, onEnd, ...among };
    return Incarnation.open(options, unwinding);
  };
  const row = async (id: string) => {
    const { rows } = await withOwner(test.database(), (owner) =>
      owner.query<{ closed: boolean; beat: string }>(
        'select closed, beat from public.instance where id = $1',
        [id],
      ),
    );
    return rows[0];
  };
  const copyOf = async (folder: string): Promise<string> => {
    const copy = await mkdtemp(`${folder}-copy-`);
    await cp(folder, copy, { recursive: true });
    return copy;
  };

  it('that has a grace sends what its lease stands on at once, not a period later', async () => {
    const { lease } = await start(home, { graceMs: 30_000 });
    const opened = performance.now();
    await eventually(async () => lease.covers(performance.now()));
    expect(lease.until - 30_000 - opened).toBeLessThan(900);
  });

  it('tells a fence after a silence as long as its grace from one by who does not trust it', async () => {
    const fenced = async (graceMs: number) => {
      const { id } = await start(await mkdtemp(join(home, 'folder-')), { graceMs });
      const before = ends.length;
      await withOwner(test.database(), (owner) =>
        owner.query('update public.instance set fenced = true where id = $1', [id]),
      );
      await eventually(async () => ends.length > before);
    };
    await fenced(30_000);
    // A heartbeat is a second after the one before it.
    await fenced(1);
    expect([ends, lapses]).toEqual([
      ['fenced', 'fenced'],
      [false, true],
    ]);
  });

  it('counts the silence until the heartbeat is answered that finds it fenced, and not until it is sent', async () => {
    const { id } = await start(home, { graceMs: 1_600 });
    await eventually(async () => Number((await row(id))?.beat) >= 2);
    await withOwner(test.database(), async (owner) => {
      await owner.query('begin');
      await owner.query('update public.instance set fenced = true where id = $1', [id]);
      // The next one is sent after a second, and waits for the row.
      await sleep(1_900);
      await owner.query('commit');
    });
    await eventually(async () => ends.length > 0);
    expect([ends, lapses]).toEqual([['fenced'], [true]]);
  });

  it('asks what all read by its own row, which has to be live', async () => {
    const asking = await start(home);
    const [known] = Object.values(SUITES);
    const read = () => asking.allRead(known?.number ?? 0, ENVELOPE_VERSION);
    await withOwner(test.database(), (owner) =>
      owner.query('update public.instance set closed = true where id <> $1', [asking.id]),
    );
    expect(await read()).toBe(true);
    const older = { id: randomUUID(), zone: 'local', suites: [], envelopes: [], graceMs: 0 };
    await test.store().instances.open(older);
    expect(await read()).toBe(false);
    await test.store().instances.close(asking.id);
    await expect(read()).rejects.toMatchObject({ code: 'database_unavailable' });
    await test.store().instances.close(older.id);
  });

  it('counts who was kept from beating before it started, as it was itself', async () => {
    const asking = await start(home);
    const [known] = Object.values(SUITES);
    const older = { id: randomUUID(), zone: 'local', suites: [], envelopes: [], graceMs: 0 };
    await test.store().instances.open(older);
    await withOwner(test.database(), (owner) =>
      owner.query(
        `update public.instance set beat_at = beat_at - interval '1 hour' where id = $1`,
        [older.id],
      ),
    );
    expect(await asking.allRead(known?.number ?? 0, ENVELOPE_VERSION)).toBe(false);
    await test.store().instances.close(older.id);
  });

  it('closes its predecessor in the same folder at once', async () => {
    const killed = await start(home);
    const next = await start(home);
    expect((await row(killed.id))?.closed).toBe(true);
    expect((await row(next.id))?.closed).toBe(false);
    await eventually(async () => killed.state === 'closed');
    expect(ends).toEqual(['closed']);
  });

  it('started from a copy of a folder leaves the process alone that runs in the original', async () => {
    const original = await start(home);
    const folder = await copyOf(home);
    try {
      const copy = await start(folder);
      expect(copy.id).not.toBe(original.id);
      const then = Number((await row(original.id))?.beat);
      await eventually(async () => Number((await row(original.id))?.beat) > then);
      expect([(await row(original.id))?.closed, (await row(copy.id))?.closed]).toEqual([
        false,
        false,
      ]);
      expect([original.state, copy.state, ends]).toEqual(['ok', 'ok', []]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('started from a copy closes a predecessor that is dead', async () => {
    const killed = await start(home);
    await unwindings[0]?.unwind();
    await withOwner(test.database(), async (owner) => {
      await owner.query('alter table public.instance disable trigger instance_closed');
      await owner.query(
        `update public.instance set closed = false, beat_at = beat_at - interval '${LIVE_SECONDS} s'
           where id = $1`,
        [killed.id],
      );
      await owner.query('alter table public.instance enable trigger instance_closed');
    });
    const folder = await copyOf(home);
    try {
      await start(folder);
      expect((await row(killed.id))?.closed).toBe(true);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('that is one of several workers closes the one before it and leaves the others alone', async () => {
    const beside = await start(home, { worker: 1 });
    const killed = await start(home, { worker: 2, first: false });
    await start(home, { worker: 2, first: false });
    expect((await row(killed.id))?.closed).toBe(true);
    expect((await row(beside.id))?.closed).toBe(false);
  });

  it('that is the first to start closes all that were left, also those it has no worker for', async () => {
    const left = [await start(home, { worker: 1 }), await start(home, { worker: 3, first: false })];
    await start(home);
    for (const { id } of left) expect((await row(id))?.closed).toBe(true);
    expect((await readdir(home)).filter((name) => name.startsWith('instance'))).toEqual([
      'instance',
    ]);
  });
});
