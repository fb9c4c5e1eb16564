/** Attacks on the root: all refused on a root of the ceremony, and shown to work on one without it. */
import { afterEach, describe, expect, it } from '@jest/globals';
import {
  attackRoot,
  ATTACKS,
  custodyOf,
  inspectRoot,
  requireNoWeaker,
} from '../../src/hsm/root-attacks.ts';
import { runRootCeremony } from '../../src/hsm/run-ceremony.ts';
import { CKA, CKM, CKR } from '../../src/hsm/cryptoki.ts';
import type { Attribute, Cryptoki } from '../../src/hsm/cryptoki.ts';
import { rootId } from '../../src/hsm/roots.ts';
import { attributes, ROOT_LABEL } from '../../src/hsm/templates.ts';
import { withConnection, withToken } from './import-keys.ts';
import { makeToken, ROOT, temporaryFolder, tokenIn } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

let fixture: TokenFixture | undefined;

afterEach(() => {
  fixture?.remove();
  fixture = undefined;
});

/** What SoftHSM allows on an ordinary, extractable, modifiable AES key. */
const WORKS_WITHOUT_TEMPLATES = [
  'decrypt with the root',
  'change an attribute of the root',
  'copy the root with attribute 0x105 set',
  'copy the root with attribute 0x104 set',
  'copy the root to a modifiable object',
  'wrap the root with itself',
  'wrap the root with a key of one’s own',
  'wrap the root with an RSA public key of one’s own',
  'unwrap a private key as a readable secret',
  'unwrap a secret key readable',
  'unwrap a private key readable',
  'unwrap with SENSITIVE left out',
  'unwrap with SENSITIVE twice',
  'unwrap for any wrapping key',
  'unwrap with WRAP_WITH_TRUSTED left out',
  'unwrap a secret that unwraps',
];

describe('a root of the ceremony', () => {
  it('refuses every attack, also after a restart of the module', async () => {
    fixture = await makeToken();
    for (const start of ['first', 'second']) {
      const report = await withConnection(fixture, (connection, root) => ({
        start,
        ...inspectRoot(connection, root),
      }));
      const undecided = report.attacks.filter(({ outcome }) => outcome !== 'refused');
      expect(undecided).toEqual([]);
      expect(report.attacks).toHaveLength(ATTACKS.length);
      expect(report).toMatchObject({ start, custody: 'non-extractable', findings: [] });
      expect(custodyOf(report)).toBe('non-extractable');
    }
    expect(ATTACKS.length).toBeGreaterThanOrEqual(21);
  });
});

describe('a token that fails', () => {
  it.each(['GENERAL_ERROR', 'FUNCTION_FAILED', 'DEVICE_MEMORY', 'HOST_MEMORY'] as const)(
    'with CKR_%s is not taken to refuse an attack',
    async (name) => {
      fixture = await makeToken();
      const failing = (after: number) =>
        withConnection(fixture as TokenFixture, (connection, root) => {
          const { cryptoki } = connection;
          const unwrap = cryptoki.C_UnwrapKey.bind(cryptoki) as (...given: unknown[]) => unknown;
          let calls = 0;
          const value = (...given: unknown[]) => {
            calls += 1;
            if (calls > after) throw Object.assign(new Error('injected'), { code: CKR[name] });
            return unwrap(...given);
          };
          Object.defineProperty(cryptoki, 'C_UnwrapKey', { value, configurable: true });
          return inspectRoot(connection, root);
        });
      for (const after of [0, 1]) {
        const report = await failing(after);
        expect(custodyOf(report)).toBe('unknown');
        // Which proves nothing of a root that is to replace another: it is tried again.
        const judge = () => requireNoWeaker({ trusted: true }, report, 'non-extractable');
        expect(judge).toThrow(expect.objectContaining({ code: 'hsm_unavailable' }));
        expect(report.findings).toEqual([]);
        expect(report.attacks.some(({ outcome }) => outcome === 'unknown')).toBe(true);
      }
    },
  );
});

describe('a root without templates', () => {
  it('falls to the attacks, so their refusal means something', async () => {
    fixture = await tokenIn(temporaryFolder(), false);
    await makePermissiveRoot(fixture);
    const attacks = await withConnection(fixture, attackRoot);
    const found = attacks.filter(({ outcome }) => outcome === 'allowed').map(({ name }) => name);
    expect([...found].sort()).toEqual([...WORKS_WITHOUT_TEMPLATES].sort());
  });

  it('is made without the SO only where that is allowed, and custody says so', async () => {
    fixture = await tokenIn(temporaryFolder(), false);
    const { soPinFile, tokenLabel: label, ...token } = fixture.token;
    expect(soPinFile).not.toBe('');
    const withoutOfficer = { ...token, tokenSelector: { label } };
    await expect(runRootCeremony({ ...withoutOfficer, ...ROOT })).rejects.toMatchObject({
      code: 'suite_unavailable_here',
    });
    const made = await runRootCeremony({ ...withoutOfficer, ...ROOT, allowExtractable: true });
    expect(made).toEqual({ made: true, root: ROOT, custody: 'extractableByPinHolder' });
    const hsm = await fixture.open();
    try {
      await hsm.useRoot(ROOT);
      expect(hsm.status().custody).toBe('extractableByPinHolder');
      const spec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
      const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
      expect(await hsm.mac({ id: 'k', spec, material }, Buffer.from('x'))).toHaveLength(32);
    } finally {
      await hsm.close();
    }
  });
});

/** What the token of each attack that SoftHSM never allows would do; the rest falls without it. */
const LAX: Record<string, (cryptoki: Cryptoki) => void> = {
  'read the root': () => undefined,
  'make a trusted key of one’s own': (cryptoki) => {
    ignore(cryptoki, 'C_GenerateKey', CKA.TRUSTED);
  },
  'unwrap extractable and wrap with a key of one’s own': (cryptoki) => {
    ignore(cryptoki, 'C_UnwrapKey', CKA.WRAP_WITH_TRUSTED);
  },
  'make a trusted RSA public key of one’s own': (cryptoki) => {
    ignore(cryptoki, 'C_CreateObject', CKA.TRUSTED);
  },
  'unwrap a secret extractable and wrap it with an RSA public key of one’s own': (cryptoki) => {
    ignore(cryptoki, 'C_UnwrapKey', CKA.WRAP_WITH_TRUSTED);
  },
};

describe('each attack', () => {
  it('has a token that falls to it', () => {
    const shown = [...WORKS_WITHOUT_TEMPLATES, ...Object.keys(LAX)];
    expect(shown.sort()).toEqual(ATTACKS.map(({ name }) => name).sort());
  });

  it.each(Object.entries(LAX))('succeeds on a lax token, and is found: %s', async (name, relax) => {
    fixture = await tokenIn(temporaryFolder(), false);
    await makePermissiveRoot(fixture, name !== 'read the root');
    const report = await withConnection(fixture, (connection, root) => {
      relax(connection.cryptoki);
      return inspectRoot(connection, root);
    });
    expect(report.attacks).toContainEqual({ name, outcome: 'allowed', detail: '' });
    expect(report.findings).toContain(name);
    expect(custodyOf(report)).toBe('extractableByPinHolder');
  });
});

/** The token takes the attribute out of the template it is given, as if it did not know it. */
function ignore(
  cryptoki: Cryptoki,
  name: 'C_GenerateKey' | 'C_UnwrapKey' | 'C_CreateObject',
  type: number,
): void {
  const original = cryptoki[name].bind(cryptoki) as (...given: unknown[]) => unknown;
  const value = (...given: unknown[]) => {
    const template = given.pop() as Attribute[];
    return original(
      ...given,
      template.filter((one) => one.type !== type),
    );
  };
  Object.defineProperty(cryptoki, name, { value, configurable: true });
}

describe('the ceremony', () => {
  it('finds the root that is there, and makes another generation beside it', async () => {
    fixture = await makeToken();
    const tokenSelector = { label: fixture.token.tokenLabel };
    const again = { ...fixture.token, tokenSelector, installation: ROOT.installation };
    const runs = [1, 2, 2, 1].map((generation) => ({ ...again, generation }));
    const made: boolean[] = [];
    for (const run of runs) made.push((await runRootCeremony(run)).made);
    expect(made).toEqual([false, true, false, false]);
    const hsm = await fixture.open();
    try {
      const spec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
      await hsm.useRoot(ROOT);
      const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
      await hsm.useRoot({ ...ROOT, generation: 2 });
      const old = { id: 'old', spec, material };
      expect(await hsm.mac(old, Buffer.from('x'))).toHaveLength(32);
      expect(await hsm.generate(spec, { custody: 'hsm-wrapped' })).toMatchObject({ generation: 2 });
      expect(await hsm.roots()).toHaveLength(2);
    } finally {
      await hsm.close();
    }
  });

  it('makes one root when two run at once', async () => {
    fixture = await tokenIn(temporaryFolder(), false);
    const options = {
      ...fixture.token,
      tokenSelector: { label: fixture.token.tokenLabel },
      ...ROOT,
    };
    const made = await Promise.all([1, 2, 3].map(() => runRootCeremony(options)));
    expect(made.filter((one) => one.made)).toHaveLength(1);
  });

  it('is not taken in by a second object of the same name', async () => {
    fixture = await makeToken();
    await makePermissiveRoot(fixture);
    const hsm = await fixture.open();
    try {
      await expect(hsm.useRoot(ROOT)).rejects.toMatchObject({ code: 'integrity_failed' });
    } finally {
      await hsm.close();
    }
  });
});

/** What a PIN holder can plant: no templates, extractable, modifiable. */
function makePermissiveRoot(fixture: TokenFixture, sensitive = true): Promise<unknown> {
  return withToken(fixture, (connection) =>
    connection.run((session, cryptoki) =>
      cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [
        ...attributes({ token: true, private: true, sensitive, extractable: true }),
        ...attributes({ valueLen: 32, wrap: true, unwrap: true }),
        { type: CKA.LABEL, value: `${ROOT_LABEL}${ROOT.generation}` },
        { type: CKA.ID, value: rootId(ROOT) },
      ]),
    ),
  );
}
