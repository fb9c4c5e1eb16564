/** Entries of what happens to the service itself: kept until they can be made, bounded, in order. */
import { describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditDraft } from '../../src/audit/ports.ts';
import { configurationHash } from '../../src/config/fingerprint.ts';
import { loadConfig } from '../../src/config.ts';
import { TwofoldError } from '../../src/errors.ts';
import { OwnEvents, watchHsm } from '../../src/main/own-events.ts';
import { Leader } from '../../src/leader.ts';

const silent = { warn: () => undefined };

function recorder() {
  const made: [string, AuditDraft['detail']][] = [];
  const state = { failing: false };
  const events = new OwnEvents((operation, detail) => {
    if (state.failing) return Promise.reject(new TwofoldError('audit_unavailable'));
    made.push([operation, detail]);
    return Promise.resolve('1-1');
  }, silent);
  return { made, state, events };
}

describe('entries of the service itself', () => {
  it('are made once they can be, in order, and say when it was and how many were lost', async () => {
    const { made, state, events } = recorder();
    state.failing = true;
    const before = Date.now();
    for (let n = 0; n < 70; n += 1) events.note('hsm.state', { n });
    await sleep(50);
    expect(made).toEqual([]);
    state.failing = false;
    await sleep(1_200);
    expect(made.map(([, { n }]) => n)).toEqual(Array.from({ length: 64 }, (_, n) => n));
    expect(Date.parse(String(made[0]?.[1]['happenedAt']))).toBeLessThan(before + 1_000);
    events.note('hsm.state', { n: 'next' });
    await events.stop();
    expect(made.at(-1)?.[1]).toMatchObject({ n: 'next', dropped: 6 });
  });

  it('are tried once more at the end', async () => {
    const { made, state, events } = recorder();
    state.failing = true;
    events.note('leader.lost', { role: 'scheduler', term: 2 });
    await sleep(20);
    state.failing = false;
    await events.stop();
    expect(made).toMatchObject([['leader.lost', { role: 'scheduler', term: 2 }]]);
  });

  it('tell of each state of the HSM, and of a login that was regained between two looks', async () => {
    const noted: unknown[] = [];
    let now = { state: 'ok', tokenEpoch: 1 };
    const end = watchHsm(
      { status: () => now },
      { note: (operation, detail) => void noted.push([operation, detail]) },
    );
    now = { state: 'session-lost', tokenEpoch: 1 };
    await sleep(700);
    now = { state: 'ok', tokenEpoch: 2 };
    await sleep(700);
    now = { state: 'ok', tokenEpoch: 3 };
    end();
    expect(noted).toEqual([
      ['hsm.state', { state: 'session-lost', before: 'ok', tokenEpoch: 1 }],
      ['hsm.state', { state: 'ok', before: 'session-lost', tokenEpoch: 2 }],
      ['hsm.state', { state: 'ok', before: 'ok', tokenEpoch: 3 }],
    ]);
  });

  it('tell of each term that was taken, lost and given up', async () => {
    const turns: unknown[] = [];
    let row = { term: 0, holder: null as string | null, beat: 0 };
    let keeps = true;
    const leader = new Leader({
      role: 'scheduler',
      holder: 'a',
      onTurn: (...turn) => turns.push(turn),
      store: {
        beat: () => Promise.resolve(keeps),
        leadership: () => Promise.resolve(row),
        takeLeadership: (_role, seen, holder) => {
          row = { term: seen.term + 1, holder, beat: 0 };
          return Promise.resolve(row);
        },
      },
    });
    await leader.tick();
    await leader.tick();
    keeps = false;
    row = { term: 2, holder: 'b', beat: 0 };
    await leader.tick();
    expect(turns).toEqual([
      ['taken', 1],
      ['lost', 1],
    ]);
    leader.lose();
    row = { term: 2, holder: null, beat: 0 };
    await leader.tick();
    await leader.resign();
    expect(turns.slice(2)).toEqual([
      ['taken', 3],
      ['lost', 3],
    ]);
  });
});

describe('the hash of the configuration', () => {
  const config = (flags: Record<string, string>, url = 'postgresql://a:b@localhost/x') =>
    loadConfig({
      flags: new Map(Object.entries({ 'zone-name': 'z', ...flags })),
      environment: { DATABASE_URL: url },
      uses: ['database'],
    });

  it('tells settings apart, and no secret in them', () => {
    const hash = configurationHash(config({}));
    expect(hash).toMatch(/^[0-9a-f]{64}$/u);
    expect(configurationHash(config({}))).toBe(hash);
    expect(configurationHash(config({}, 'postgresql://a:other@localhost/x'))).toBe(hash);
    expect(configurationHash(config({}, 'postgresql://c:b@localhost/x'))).not.toBe(hash);
    expect(configurationHash(config({ port: '9999' }))).not.toBe(hash);
  });
});
