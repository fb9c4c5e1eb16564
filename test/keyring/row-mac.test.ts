import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { decodeCbor } from '../../src/crypto/cbor.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { HsmMaterial } from '../../src/hsm/port.ts';
import type { Key, KeyVersion, Material } from '../../src/keyring/model.ts';
import type { IdempotencyRecord, StoredKey } from '../../src/keyring/ports.ts';
import {
  attestIdempotency,
  attestKey,
  attestVersion,
  canonicalIdempotency,
  canonicalKey,
  canonicalOperation,
  canonicalVersion,
  verifyStored,
} from '../../src/keyring/row-mac.ts';
import {
  at,
  DESTRUCTION,
  EXPORTED_KEY,
  HELD_KEY,
  KEY,
  KEY_ID,
  LATER_KEY,
  MATERIAL,
  ON_TOKEN,
  SCHEDULED,
  STATES,
  VERSIONS,
  WRAPPED,
} from './samples.ts';
import { codeOf } from './world.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const mac = async (data: Uint8Array): Promise<Uint8Array> =>
  createHmac('sha256', Buffer.alloc(32, 0x2a)).update(data).digest();

interface Golden {
  readonly canonical: string;
  /** HMAC-SHA-256 under 32 bytes of 2a. */
  readonly mac: string;
}
const GOLDEN = JSON.parse(
  readFileSync(new URL('row-mac.golden.json', import.meta.url), 'utf8'),
) as Readonly<Record<string, Golden>>;
const onToken = { ...VERSIONS.active, material: withHsm(ON_TOKEN) } as KeyVersion;
const RECORD: IdempotencyRecord = {
  namespace: 'default',
  principal: new Uint8Array(32).fill(0x11),
  key: 'once',
  requestHash: new Uint8Array(32).fill(0x22),
  status: 201,
  body: '{"name":"é"}',
  auditId: '7-3',
};
const PUBLISHED: Key = { ...KEY, publish: true };
const CERTIFIED: KeyVersion = {
  ...VERSIONS.active,
  certificateChain: new Uint8Array(32).fill(0x44),
};
const sha256 = (value: number, length: number) =>
  Uint8Array.from(createHash('sha256').update(Buffer.alloc(length, value)).digest());

describe('golden bytes, which no later version may change', () => {
  it('of a key', async () => {
    const { mac: attested } = await attestKey(mac, KEY);
    expect({ canonical: hex(canonicalKey(KEY)), mac: hex(attested) }).toEqual(GOLDEN['key']);
  });

  it('of a published key, in the format that has the column', async () => {
    const { mac: attested } = await attestKey(mac, PUBLISHED);
    const found = { canonical: hex(canonicalKey(PUBLISHED)), mac: hex(attested) };
    expect(found).toEqual(GOLDEN['published key']);
    // The columns of format 1 and one more.
    const columns = (bytes: string) => {
      const read = decodeCbor(Buffer.from(bytes, 'hex').subarray(1));
      return Array.isArray(read) ? (read as unknown[]) : [];
    };
    expect(found.canonical.slice(0, 2)).toBe('02');
    expect(columns(found.canonical)).toEqual([...columns(hex(canonicalKey(KEY))), true]);
  });

  it('of a key with aliases and a destruction to come, in the format after that', async () => {
    const { mac: attested } = await attestKey(mac, LATER_KEY);
    const found = { canonical: hex(canonicalKey(LATER_KEY)), mac: hex(attested) };
    expect(found).toEqual(GOLDEN['later key']);
    expect(found.canonical.slice(0, 2)).toBe('03');
    // The first group is there even where its columns are what they were before.
    const bytes = canonicalKey({ ...LATER_KEY, publish: false });
    const columns = decodeCbor(bytes.subarray(1));
    const { at: due, requestedAt, reason } = DESTRUCTION;
    expect(Array.isArray(columns) && columns.slice(-3)).toEqual([
      false,
      ['pay', 'payments.eu'],
      [due.getTime(), requestedAt.getTime(), reason],
    ]);
  });

  it('of a key that has left, in the format after those', async () => {
    const { mac: attested } = await attestKey(mac, EXPORTED_KEY);
    const found = { canonical: hex(canonicalKey(EXPORTED_KEY)), mac: hex(attested) };
    expect(found).toEqual(GOLDEN['exported key']);
    expect(found.canonical.slice(0, 2)).toBe('05');
  });

  it('of a key that holds its policy, in the format after that', async () => {
    const { mac: attested } = await attestKey(mac, HELD_KEY);
    const found = { canonical: hex(canonicalKey(HELD_KEY)), mac: hex(attested) };
    expect(found).toEqual(GOLDEN['held key']);
    expect(found.canonical.slice(0, 2)).toBe('06');
  });

  it('of a version with a certificate chain, likewise', async () => {
    const { mac: attested } = await attestVersion(mac, CERTIFIED);
    const found = { canonical: hex(canonicalVersion(CERTIFIED)), mac: hex(attested) };
    expect(found).toEqual(GOLDEN['certified version']);
    expect(found.canonical.slice(0, 2)).toBe('02');
    expect(found.canonical.endsWith(`5820${'44'.repeat(32)}`)).toBe(true);
  });

  it.each([
    ...Object.entries(VERSIONS),
    ...Object.entries(SCHEDULED),
    ['hsm-token', onToken] as const,
  ])('of a version: %s', async (name, version) => {
    const { mac: attested } = await attestVersion(mac, version);
    const found = { canonical: hex(canonicalVersion(version)), mac: hex(attested) };
    expect(found).toEqual(GOLDEN[name]);
  });

  it('of the record of an idempotency key', async () => {
    const { mac: attested } = await attestIdempotency(mac, RECORD);
    const found = { canonical: hex(canonicalIdempotency(RECORD)), mac: hex(attested) };
    expect(found).toEqual(GOLDEN['idempotency']);
  });

  it('of what an operation is: every column that never changes, in the documented order', () => {
    const operation = {
      id: '4f1d2c4e-7a39-4a53-9c52-0b7fd9a3c111',
      kind: 'rewrap',
      namespace: 'default',
      keyId: null,
      request: { total: 7, to: null, key: 'k', note: 'n' },
      issuer: 'i',
      subject: 's',
      rate: 100,
      createdAt: new Date(1_790_000_000_123),
    };
    const bytes = canonicalOperation(operation);
    expect(bytes[0]).toBe(1);
    const { id, kind, namespace, issuer, subject, rate } = operation;
    const request = new Map(Object.entries(operation.request));
    expect(decodeCbor(bytes.subarray(1))).toEqual([
      ...['twofold/row/1', 'operation', id, kind, namespace, null, request],
      ...[issuer, subject, rate, 1_790_000_000_123],
    ]);
  });

  it('are a format byte and the columns in the documented order', () => {
    const columnsOf = (name: string) => {
      const bytes = Buffer.from(GOLDEN[name]?.canonical ?? '', 'hex');
      expect(bytes[0]).toBe(1);
      return decodeCbor(bytes.subarray(1));
    };
    const ms = (day: number) => at(day).getTime();
    const id = KEY_ID;
    const labels = new Map([
      ['env', 'prod'],
      ['team', 'ml'],
    ]);
    // prettier-ignore
    expect(columnsOf('key')).toEqual([
      'twofold/row/1', 'key', id, 'default', 'payments', 'wrap', labels, null, true,
      2, 1, 2, [ms(4), 'incident'], null, ms(1), 3,
    ]);
    const point = sha256(2, 65);
    // prettier-ignore
    expect(columnsOf('suspended')).toEqual([
      'twofold/row/1', 'version', id, 1, 0x0101, ms(1), 1, 'suspended', null,
      ms(2), ms(9), null, null, null, null,
      null, [ms(3), 'held'],
      [point, ['hsm-wrapped', 1, sha256(1, 40), point]],
      [sha256(5, 1184), ['sealed', 1, sha256(6, 93)]],
      ['sealed', 1, sha256(7, 61)],
    ]);
  });
});

function withHsm(hsm: HsmMaterial): Material {
  return { ...MATERIAL, classical: { public: MATERIAL.classical?.public ?? null, hsm } };
}

/** Every value of the same kind but another one. */
function others(value: unknown): unknown[] {
  if (value === null) return ['x', 1, at(20)];
  if (typeof value === 'string') return [`${value}x`, value.slice(1), ''];
  if (typeof value === 'number') return [value + 1, 0];
  if (typeof value === 'boolean') return [!value];
  if (value instanceof Date) return [new Date(value.getTime() + 1), null];
  if (value instanceof Uint8Array) {
    const flipped = Uint8Array.from(value);
    flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
    return [flipped, value.subarray(1)];
  }
  return [];
}

/** Each copy of `value` in which one leaf, at any depth, is another value. */
function* mutants(value: unknown): Generator<{ path: string; mutant: unknown }> {
  for (const mutant of others(value)) yield { path: '', mutant };
  if (typeof value !== 'object' || value === null) return;
  if (value instanceof Date || value instanceof Uint8Array) return;
  for (const [name, member] of Object.entries(value)) {
    for (const { path, mutant } of mutants(member)) {
      yield { path: `.${name}${path}`, mutant: { ...value, [name]: mutant } };
    }
    if (member !== null) yield { path: `.${name}=null`, mutant: { ...value, [name]: null } };
  }
}

/** The bytes, or that there are none: a mutant outside the model has no canonical form. */
function bytesOrNone(encode: () => Uint8Array): string | null {
  try {
    return hex(encode());
  } catch {
    return null;
  }
}

describe('every column', () => {
  it.each([
    ['of format 1', KEY],
    ['with later columns', LATER_KEY],
    ['that has left', EXPORTED_KEY],
  ])('of a key %s changes its canonical bytes', (_name, key) => {
    const original = hex(canonicalKey(key));
    const all = [...mutants(key)];
    expect(all.length).toBeGreaterThan(40);
    for (const { path, mutant } of all) {
      expect([path, bytesOrNone(() => canonicalKey(mutant as Key))]).not.toEqual([path, original]);
    }
  });

  it.each([
    ...STATES.map((state) => [state, VERSIONS[state]] as const),
    ...Object.entries(SCHEDULED),
    ['on a token', { ...VERSIONS.active, material: withHsm(ON_TOKEN) } as KeyVersion] as const,
  ])('of a version (%s) changes its canonical bytes', (_name, version) => {
    const original = hex(canonicalVersion(version));
    const all = [...mutants(version)];
    expect(all.length).toBeGreaterThan(20);
    for (const { path, mutant } of all) {
      const found = bytesOrNone(() => canonicalVersion(mutant as KeyVersion));
      expect([path, found]).not.toEqual([path, original]);
    }
  });

  it('keeps rows apart: no two states, halves or kinds of row share bytes', () => {
    const swapped: Material = {
      classical: { public: MATERIAL.pq?.public ?? null, hsm: WRAPPED },
      pq: MATERIAL.pq && { ...MATERIAL.pq, public: MATERIAL.classical?.public ?? new Uint8Array() },
      psk: MATERIAL.psk,
    };
    const halves: Material = {
      ...MATERIAL,
      pq: MATERIAL.pq && MATERIAL.psk && { ...MATERIAL.pq, half: MATERIAL.psk },
      psk: MATERIAL.pq?.half ?? null,
    };
    const rows = [
      canonicalKey(KEY),
      ...STATES.map((state) => canonicalVersion(VERSIONS[state])),
      ...[swapped, halves].map((material) =>
        canonicalVersion({ ...VERSIONS.active, material } as KeyVersion),
      ),
    ];
    expect(new Set(rows.map(hex)).size).toBe(rows.length);
  });

  it('of labels counts, and their order does not', () => {
    const labels = fc.dictionary(fc.stringMatching(/^[a-z]{1,6}$/), fc.string({ maxLength: 5 }));
    fc.assert(
      fc.property(labels, labels, (one, other) => {
        const reversed = Object.fromEntries(Object.entries(one).toReversed());
        const of = (value: Record<string, string>) => hex(canonicalKey({ ...KEY, labels: value }));
        expect(of(reversed)).toBe(of(one));
        const same =
          Object.keys(one).length === Object.keys(other).length &&
          Object.entries(one).every(
            ([name, value]) => Object.hasOwn(other, name) && other[name] === value,
          );
        expect(of(other) === of(one)).toBe(same);
      }),
    );
  });

  it('of labels named like members of a prototype counts', () => {
    const forms = [{}, { constructor: 'a' }, { toString: 'a' }, JSON.parse('{"__proto__":"a"}')];
    const bytes = forms.map((labels) =>
      hex(canonicalKey({ ...KEY, labels: labels as Key['labels'] })),
    );
    expect(new Set(bytes).size).toBe(forms.length);
  });
});

describe('verifyStored', () => {
  const stored = async (): Promise<StoredKey> => ({
    key: await attestKey(mac, KEY),
    versions: [
      await attestVersion(mac, VERSIONS.active),
      await attestVersion(mac, { ...VERSIONS.active, version: 2 }),
    ],
  });

  it('takes what it attested', async () => {
    await expect(verifyStored(mac, await stored())).resolves.toBeUndefined();
  });

  const other = '00000000-0000-4000-8000-000000000000';
  it.each<[string, (rows: StoredKey) => Promise<StoredKey> | StoredKey]>([
    ['a version is missing', (rows) => ({ ...rows, versions: rows.versions.slice(0, 1) })],
    ['the first version is missing', (rows) => ({ ...rows, versions: rows.versions.slice(1) })],
    ['versions are reordered', (rows) => ({ ...rows, versions: rows.versions.toReversed() })],
    [
      'a version stands twice',
      (rows) => ({
        ...rows,
        versions: [rows.versions[0], rows.versions[0]] as StoredKey['versions'],
      }),
    ],
    [
      'there is one more version',
      async (rows) => ({
        ...rows,
        versions: [...rows.versions, await attestVersion(mac, { ...VERSIONS.active, version: 3 })],
      }),
    ],
    [
      'a version is of another key',
      async (rows) => ({
        ...rows,
        versions: [
          await attestVersion(mac, { ...VERSIONS.active, keyId: other }),
          ...rows.versions.slice(1),
        ],
      }),
    ],
    [
      'the key has the MAC of another row',
      (rows) => ({ ...rows, key: { ...rows.key, mac: rows.versions[0]?.mac ?? rows.key.mac } }),
    ],
    ['a MAC is empty', (rows) => ({ ...rows, key: { ...rows.key, mac: new Uint8Array(0) } })],
    [
      'a MAC is cut',
      (rows) => ({ ...rows, key: { ...rows.key, mac: rows.key.mac.subarray(0, 31) } }),
    ],
    [
      'a time is none',
      (rows) => ({
        ...rows,
        key: { ...rows.key, value: { ...KEY, createdAt: new Date(Number.NaN) } },
      }),
    ],
    [
      'the key was published',
      (rows) => ({ ...rows, key: { ...rows.key, value: { ...KEY, publish: true } } }),
    ],
    [
      'the publication was taken back',
      async (rows) => ({
        ...rows,
        key: { value: KEY, mac: (await attestKey(mac, PUBLISHED)).mac },
      }),
    ],
    [
      'the state was turned back',
      (rows) => ({ ...rows, key: { ...rows.key, value: { ...KEY, suspension: null } } }),
    ],
  ])('refuses rows of which %s', async (_name, alter) => {
    expect(await codeOf(verifyStored(mac, await alter(await stored())))).toBe('integrity_failed');
  });

  it('passes on what stopped the MAC, and asks for few at a time', async () => {
    let running = 0;
    let most = 0;
    const slow = async (data: Uint8Array) => {
      most = Math.max(most, (running += 1));
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      return mac(data);
    };
    const versions = Array.from({ length: 200 }, (_, index) => ({
      ...VERSIONS.active,
      version: index + 1,
    }));
    const many = {
      key: await attestKey(mac, { ...KEY, latestVersion: 200 }),
      versions: await Promise.all(versions.map((version) => attestVersion(mac, version))),
    };
    await verifyStored(slow, many);
    expect(most).toBe(16);
    const broken = async () => Promise.reject(new TwofoldError('hsm_busy'));
    expect(await codeOf(verifyStored(broken, many))).toBe('hsm_busy');
  });
});
