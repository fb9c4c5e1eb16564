/** What the service makes of the replication that PostgreSQL shows. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from '@jest/globals';
import { checkConfig } from '../../src/config.ts';
import type { Config } from '../../src/config.ts';
import {
  complaintOf,
  isRequired,
  ReplicationLooks,
  ReplicationWatch,
  stateOf,
} from '../../src/main/replication.ts';
import type { Strictness } from '../../src/main/manager.ts';
import type { Replication } from '../../src/store/replication.ts';
import type { Log } from '../../src/telemetry/logs.ts';

const STRICT: Replication = {
  primary: true,
  synchronousCommit: 'on',
  standbyNames: '"z2"',
  fsync: true,
  synchronousStandbys: null,
};
const ALONE: Replication = { ...STRICT, standbyNames: '' };
const STANDBY: Replication = { ...ALONE, primary: false };

const KEPT = 'commits wait for a standby, and the manager keeps it so without one';
const UNKNOWN =
  'commits wait for a standby; whether the manager keeps it so without one is not known';

const config = (more: Record<string, string> = {}): Config => {
  const check = checkConfig({ environment: { TWOFOLD_MODE: 'dev', ...more }, flags: new Map() });
  if (!check.ok) throw new Error(JSON.stringify(check.problems));
  return check.config;
};
const ZONES = { TWOFOLD_ZONE_OTHERS: '["b","c"]' };

function watched(of: Config) {
  const lines: string[] = [];
  const line = (level: string) => (_: object, text: string) => void lines.push(`${level}: ${text}`);
  const log = { info: line('info'), warn: line('warn'), error: line('error') } as unknown as Log;
  return { watch: new ReplicationWatch(of, log), lines };
}

it('is synchronous where a commit waits for a standby’s disk, under any manager’s words', () => {
  for (const standbyNames of ['*', 'ANY 1 ("z2","z3")', 'FIRST 1 (z2)']) {
    expect(stateOf({ ...STRICT, standbyNames })).toBe('synchronous');
    expect(stateOf({ ...STRICT, standbyNames, synchronousCommit: 'remote_apply' })).toBe(
      'synchronous',
    );
    for (const synchronousCommit of ['off', 'local', 'remote_write']) {
      expect(stateOf({ ...STRICT, standbyNames, synchronousCommit })).toBe('asynchronous');
    }
  }
  expect(stateOf(ALONE)).toBe('asynchronous');
  expect(stateOf({ ...STRICT, fsync: false })).toBe('not-durable');
  expect(stateOf(STANDBY)).toBe('unread');
});

it('is strict where the manager says so, and only where commits wait', () => {
  expect(stateOf(STRICT, 'strict')).toBe('strict');
  expect(stateOf(STRICT, 'not-strict')).toBe('not-strict');
  for (const told of ['strict', 'not-strict'] as const) {
    expect(stateOf(ALONE, told)).toBe('asynchronous');
    expect(stateOf({ ...STRICT, fsync: false }, told)).toBe('not-durable');
    expect(stateOf(STANDBY, told)).toBe('unread');
  }
});

it('is required where there are other zones, or where the configuration says so', () => {
  expect(isRequired(config())).toBe(false);
  expect(isRequired(config(ZONES))).toBe(true);
  expect(isRequired(config({ ...ZONES, TWOFOLD_DATABASE_REPLICATION: 'reported' }))).toBe(false);
  expect(isRequired(config({ TWOFOLD_DATABASE_REPLICATION: 'required' }))).toBe(true);
  for (const others of ['["local"]', '["b","b"]']) {
    expect(() => config({ TWOFOLD_ZONE_OTHERS: others })).toThrow('zone.others');
  }
});

it('refuses a start under a manager that would stop waiting, and is not ready once it is so', () => {
  const { watch, lines } = watched(config(ZONES));
  const complaint = complaintOf(STRICT, 'not-strict') ?? 'none';
  expect(() => watch.begin(STRICT, 'not-strict')).toThrow(complaint);
  watch.begin(STRICT, 'strict');
  // A manager that does not answer has changed nothing.
  const told = (['unknown', 'not-strict', 'unknown', 'strict'] as const).map((strictness) => {
    watch.see(STRICT, strictness);
    return [watch.check.ready, watch.check.state];
  });
  expect(told).toEqual([
    [true, 'strict'],
    [false, 'not-strict'],
    [false, 'not-strict'],
    [true, 'strict'],
  ]);
  expect(lines).toEqual([`info: ${KEPT}`, `error: ${complaint}`, `info: ${KEPT}`]);
});

it('refuses a start that would acknowledge what one zone alone has', () => {
  for (const seen of [ALONE, { ...STRICT, fsync: false }]) {
    const { watch } = watched(config(ZONES));
    expect(() => watch.begin(seen)).toThrow(complaintOf(seen) ?? 'none');
    const single = watched(config());
    single.watch.begin(seen);
    expect(single.watch.check.ready).toBe(true);
    expect(single.lines).toEqual(['info: commits wait for no standby']);
    const reported = watched(config({ ...ZONES, TWOFOLD_DATABASE_REPLICATION: 'reported' }));
    reported.watch.begin(seen);
    expect(reported.watch.check.ready).toBe(true);
    expect(reported.lines).toEqual([`warn: ${complaintOf(seen)}`]);
  }
});

it('says once what changes, and is not ready meanwhile where it is required', () => {
  const { watch, lines } = watched(config(ZONES));
  watch.begin(STANDBY);
  expect(watch.check).toEqual({ name: 'replication', ready: false, state: 'unread' });
  const steps = [STRICT, STRICT, STANDBY, ALONE, ALONE, STANDBY, STRICT];
  const seen = steps.map((step) => {
    watch.see(step);
    return watch.check.ready;
  });
  expect(seen).toEqual([true, true, true, false, false, false, true]);
  expect(lines).toEqual([`info: ${UNKNOWN}`, `error: ${complaintOf(ALONE)}`, `info: ${UNKNOWN}`]);
});

it('looks at the database while managers are slow, one look at a time, and believes none that is old', async () => {
  const { watch } = watched(config(ZONES));
  watch.begin(STRICT, 'strict');
  let managers = Promise.withResolvers<Strictness>();
  let asked = 0;
  let database: Promise<Replication> = Promise.resolve(STRICT);
  let reads = 0;
  const looks = new ReplicationLooks({
    watch,
    ask: () => {
      asked += 1;
      return managers.promise;
    },
    read: () => {
      reads += 1;
      return database;
    },
  });
  for (let look = 1; look <= 5; look += 1) await looks.begin();
  expect([reads, asked]).toEqual([5, 0]);
  // The sixth asks the managers, which take their time; the database says otherwise meanwhile.
  const sixth = looks.begin();
  await sleep(1);
  database = Promise.resolve(ALONE);
  await looks.begin();
  expect(watch.check).toEqual({ name: 'replication', ready: false, state: 'asynchronous' });
  for (let look = 8; look <= 11; look += 1) await looks.begin();
  expect([reads, asked]).toEqual([11, 1]);
  managers.resolve('strict');
  await sixth;
  expect(watch.check.ready).toBe(false);
  // What the managers say goes with what the database says after it.
  database = Promise.resolve(STRICT);
  managers = Promise.withResolvers<Strictness>();
  managers.resolve('not-strict');
  await looks.begin();
  expect(watch.check.state).toBe('not-strict');
  // One that hangs is the only one; one that fails changes nothing, and the next is another.
  const hanging = Promise.withResolvers<Replication>();
  database = hanging.promise;
  const before = reads;
  const both = Promise.all([looks.begin(), looks.begin()]);
  await Promise.resolve();
  expect(reads).toBe(before + 1);
  hanging.reject(new Error('away'));
  await both;
  expect(watch.check.state).toBe('not-strict');
});
