import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { conform } from '../../src/hsm/conformance.ts';
import { CHECKS } from '../../src/hsm/conformance-checks.ts';
import type { ConformanceRow } from '../../src/hsm/conformance.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import type { Hsm, HsmStatus, RootAttack } from '../../src/hsm/port.ts';
import { ATTACKS } from '../../src/hsm/root-attacks.ts';
import { SoftwareHsm, SoftwareToken } from './software-hsm.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

function suite(opened: () => Hsm): void {
  it.each(CHECKS.map((check) => [check.name, check] as const))('%s', async (_, check) => {
    const offered = opened()
      .status()
      .capabilities.filter(({ available }) => available);
    expect(offered.map(({ name }) => name)).toEqual(expect.arrayContaining([...check.needs]));
    await check.run(opened(), ROOT);
  });
}

describe('conformance: SoftHSM', () => {
  let fixture: TokenFixture;
  let hsm: PooledHsm;

  beforeAll(async () => {
    fixture = await makeToken();
    hsm = await fixture.open();
    await hsm.useRoot(ROOT);
  });
  afterAll(async () => {
    await hsm.close();
    fixture.remove();
  });

  suite(() => hsm);

  it('holds the root in custody that the PIN cannot extract', () => {
    expect(hsm.status()).toMatchObject({ ready: true, state: 'ok', custody: 'non-extractable' });
  });

  it.each(ATTACKS.map(({ name }) => name))('the root withstands: %s', (name) => {
    const attack = hsm.status().rootAttacks?.find((one) => one.name === name);
    expect(attack).toEqual({ name, outcome: 'refused', detail: '' });
  });

  it('says how each use was checked', () => {
    const { capabilities } = hsm.status();
    expect(capabilities).toHaveLength(22);
    for (const one of capabilities) expect(one).toMatchObject({ available: true, reason: '' });
    expect(capabilities.filter(({ checked }) => checked === 'known-answer')).toHaveLength(12);
    expect(capabilities.find(({ name }) => name === 'rsa-oaep:SHA-256')?.mechanism).toBe(
      'CKM_RSA_X_509',
    );
  });
});

describe('conformance: the software port of the tests', () => {
  const token = new SoftwareToken();
  const hsm = new SoftwareHsm(token);

  beforeAll(async () => {
    token.makeRoot(ROOT);
    await hsm.useRoot(ROOT);
  });

  suite(() => hsm);

  it('says that its root was not attacked, which is no pass', async () => {
    expect(hsm.status().rootAttacks).toBeNull();
    const rows: ConformanceRow[] = [];
    await conform(hsm, ROOT, (row) => rows.push(row));
    const attacks = rows.filter(({ name }) => name.startsWith('the root withstands'));
    const detail = 'not attacked';
    expect(attacks).toEqual([{ name: 'the root withstands attacks', result: 'note', detail }]);
  });

  it('reports a failing implementation', async () => {
    class Broken extends SoftwareHsm {
      override async mac(): Promise<Uint8Array> {
        return this.random(32);
      }
      override status(): HsmStatus {
        const attack = (outcome: RootAttack['outcome']) => ({ name: outcome, outcome, detail: '' });
        const rootAttacks = (['refused', 'allowed', 'unknown'] as const).map(attack);
        return { ...super.status(), rootAttacks };
      }
    }
    const broken = new Broken(token, { lacks: ['x25519'] });
    await broken.useRoot(ROOT);
    const rows: ConformanceRow[] = [];
    const summary = await conform(broken, ROOT, (row) => rows.push(row));
    const failed = rows.filter(({ result }) => result === 'fail').map(({ name }) => name);
    expect(failed).toContain('HMAC with SHA-256 is a function of key and data');
    const root = 'the root withstands: ';
    expect(failed).toEqual(expect.arrayContaining([`${root}allowed`, `${root}unknown`]));
    expect(rows).toContainEqual({ name: `${root}refused`, result: 'pass', detail: '' });
    expect(summary.failed).toBe(failed.length);
    expect(rows).toContainEqual({
      name: 'X25519 refuses points of small order',
      result: 'absent',
      detail: 'needs x25519',
    });
  });
});
