/**
 * P5 for rotation policies: a rotation that was begun under a policy is not committed once a change of
 * that policy has answered, whichever process changed it.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { StaleAnswer } from '../../src/audit/ports.ts';
import type { PolicyChange } from '../../src/keyring/operations.ts';
import { durableEntries } from '../audit/instances.ts';
import { aRun } from '../keyring/world.ts';
import { DAY, openStage, TERMS } from '../rotation/stage.ts';
import type { Actor, Stage } from '../rotation/stage.ts';

let stage: Stage;
let second: Actor;
beforeAll(async () => {
  stage = await openStage();
  second = await stage.another();
}, 60_000);
afterAll(() => stage.stop(), 60_000);

/** Again from its authorization when something came before it, as a route does. */
async function change(actor: Actor, id: string, to: PolicyChange): Promise<string | null> {
  for (;;) {
    try {
      const grant = actor.grant('keys.set-rotation', id);
      const { auditId } = await actor.keyring.manage.changeRotation(grant, to, aRun());
      return auditId;
    } catch (error) {
      if (!(error instanceof StaleAnswer)) throw error;
    }
  }
}

const CHANGES: Readonly<Record<string, PolicyChange>> = {
  'is paused': { kind: 'pause', reason: 'a freeze' },
  'is dropped': { kind: 'delete' },
  'gets a longer interval': { kind: 'set', terms: { ...TERMS, interval: 'P360D' } },
};

describe('P5: a rotation under way when its policy', () => {
  it.each(Object.entries(CHANGES))('%s in another process does not happen', async (_, to) => {
    const id = await stage.first.create({ suite: 'A256GCM' });
    await change(stage.first, id, { kind: 'set', terms: { ...TERMS, interval: 'P30D' } });
    stage.clock.now += 30 * DAY;
    let answered: string | null = null;
    let begun = false;
    stage.device.meanwhile = async (call) => {
      // The new version is being made: the rotation has its grant and has read its policy.
      if (begun || call !== 'generate') return;
      begun = true;
      answered = await change(second, id, to);
    };
    const { scheduler, leader } = stage.first.scheduler();
    const tick = await scheduler.tick();
    stage.device.meanwhile = () => Promise.resolve();

    expect(answered).not.toBeNull();
    expect(tick).toMatchObject({ leads: true, actions: 0, failures: 0 });
    await scheduler.tick();
    await leader.resign();
    const entries = (await durableEntries(stage.database)).filter(({ keyId }) => keyId === id);
    expect(entries.some((entry) => entry.id === answered)).toBe(true);
    expect(entries.filter(({ operation }) => operation === 'keys.rotate')).toEqual([]);
    const { key } = await second.keyring.read.fresh(second.grant('keys.read', id));
    expect(key.latestVersion).toBe(1);
  });
});
