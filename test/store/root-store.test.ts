import { randomUUID } from 'node:crypto';
import { expect, it } from '@jest/globals';
import type { RootGeneration } from '../../src/keyring/ports.ts';
import { onEachMajor } from './majors.ts';
import { withOwner } from './owner.ts';
import { bytes, changer, insert, key, rejection } from './samples.ts';

const complete = (intended: RootGeneration): RootGeneration => {
  const { generation } = intended;
  const wrapped = () =>
    ({ custody: 'hsm-wrapped', generation, blob: bytes(40), check: bytes(3) }) as const;
  return { ...intended, state: 'complete', seal: wrapped(), mac: wrapped(), canary: bytes(60) };
};

onEachMajor('root store', (test) => {
  const roots = () => test.store().roots;

  it('gives a generation to the first who intends and the first who completes it', async () => {
    const installations = Array.from({ length: 5 }, () => randomUUID());
    const intended = await Promise.all(installations.map((each) => roots().intend(1, each)));
    const [winner] = intended;
    if (winner === undefined) throw new Error('nobody won');
    expect(installations).toContain(winner.installation);
    expect(intended).toEqual(intended.map(() => winner));
    expect(winner).toMatchObject({ state: 'intended', seal: null, mac: null, canary: null });

    const candidates = Array.from({ length: 5 }, () => complete(winner));
    const completed = await Promise.all(candidates.map((each) => roots().complete(each)));
    expect(candidates).toContainEqual(completed[0]);
    expect(completed).toEqual(completed.map(() => completed[0]));
    expect(await roots().generations()).toEqual([completed[0]]);
  });

  it('completes nothing under another installation', async () => {
    const intended = await roots().intend(2, randomUUID());
    const foreign = complete({ ...intended, installation: randomUUID() });
    expect(await roots().complete(foreign)).toEqual(intended);
  });

  it('refuses to complete what was never intended, or with keys of another root', async () => {
    const missing = complete({ ...(await roots().intend(3, 'i')), generation: 9 });
    expect(await rejection(roots().complete(missing))).toMatchObject({ code: 'internal' });
    const other = { ...complete(await roots().intend(3, 'i')), generation: 2 };
    expect(await rejection(roots().complete(other))).toMatchObject({ code: 'internal' });
    const half = { ...complete(await roots().intend(3, 'i')), canary: null };
    expect(await rejection(roots().complete(half))).toMatchObject({ code: 'internal' });
  });

  it('lists generations in order', async () => {
    await roots().intend(12, 'i');
    await roots().intend(4, 'i');
    const order = (await roots().generations()).map(({ generation }) => generation);
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(order).toEqual(expect.arrayContaining([4, 12]));
  });

  it('knows whether any key exists', async () => {
    expect(await roots().hasKeys()).toBe(false);
    await (await changer(test.store())).commit(insert(key()));
    expect(await roots().hasKeys()).toBe(true);
  });

  it('calls a malformed row an integrity failure', async () => {
    await withOwner(test.database(), async (owner) => {
      await owner.query('alter table public.root_generation drop constraint root_generation_state');
      await owner.query(`update public.root_generation set state = 'odd' where generation = 4`);
    });
    expect(await rejection(roots().generations())).toMatchObject({ code: 'integrity_failed' });
  });
});
