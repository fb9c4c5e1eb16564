/** Every key and version that the domain's types allow, for property tests. */
import fc from 'fast-check';
import type { Key, KeyExport, KeyVersion, Material, SealedHalf } from '../../src/keyring/model.ts';

const octets = (maxLength: number) => fc.uint8Array({ minLength: 1, maxLength });
const when = fc
  .integer({ min: 0, max: Date.UTC(9999, 11, 31) })
  .map((milliseconds) => new Date(milliseconds));
const perhaps = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
/** Text that PostgreSQL stores: any Unicode without NUL. */
const text = fc.string({ unit: 'binary', maxLength: 40 }).filter((each) => !each.includes('\0'));
const ordinal = fc.integer({ min: 1, max: 2 ** 31 - 1 });
const counted = fc.integer({ min: 0, max: 2 ** 31 - 1 });

const sealed: fc.Arbitrary<SealedHalf> = fc.record({
  custody: fc.constant('sealed' as const),
  generation: ordinal,
  sealed: octets(80),
});

const hsm = fc.oneof(
  fc.record({
    custody: fc.constant('hsm-wrapped' as const),
    generation: ordinal,
    blob: octets(80),
    check: octets(80),
  }),
  fc.record({
    custody: fc.constant('hsm-token' as const),
    tokenSerial: text,
    installation: fc.uuid(),
    objectId: octets(40),
    check: octets(80),
  }),
);

const material: fc.Arbitrary<Material> = fc.record({
  classical: perhaps(fc.record({ public: perhaps(octets(80)), hsm })),
  pq: perhaps(fc.record({ public: octets(80), half: sealed })),
  psk: perhaps(sealed),
});

const core = {
  keyId: fc.uuid(),
  version: ordinal,
  suite: fc.integer({ min: 1, max: 0xffff }),
  origin: fc.constantFrom('generated', 'imported'),
  createdAt: when,
  certificateChain: perhaps(fc.uint8Array({ minLength: 32, maxLength: 32 })),
  revision: counted,
};

const destruction = fc.record({ at: when, requestedAt: when, reason: text });

export const anyVersion: fc.Arbitrary<KeyVersion> = fc.oneof(
  fc.record({
    ...core,
    state: fc.constant('pre-active' as const),
    material,
    activateAt: perhaps(when),
    destruction: perhaps(destruction),
  }),
  fc.record({
    ...core,
    state: fc.constant('active' as const),
    material,
    activatedAt: when,
    deactivateAt: perhaps(when),
  }),
  fc.record({
    ...core,
    state: fc.constant('suspended' as const),
    material,
    activatedAt: when,
    deactivateAt: perhaps(when),
    suspension: fc.record({ at: when, reason: text }),
    destruction: perhaps(destruction),
  }),
  fc.record({
    ...core,
    state: fc.constant('deactivated' as const),
    material,
    activatedAt: when,
    deactivatedAt: when,
    reason: text,
    destruction: perhaps(destruction),
  }),
  fc.record({
    ...core,
    state: fc.constant('compromised' as const),
    material,
    activatedAt: perhaps(when),
    compromisedAt: when,
    reason: text,
    destruction: perhaps(destruction),
  }),
  fc.record({
    ...core,
    state: fc.constant('destroyed' as const),
    destroyedAt: when,
    compromisedAt: perhaps(when),
    reason: text,
  }),
);

const keyExport: fc.Arbitrary<KeyExport> = fc.record({
  version: ordinal,
  at: when,
  suite: ordinal,
  recipient: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  by: fc.record({ issuer: text, subject: text }),
  approval: fc.uuid(),
});

const keyRecord: fc.Arbitrary<Key> = fc.record({
  id: fc.uuid(),
  namespace: fc.constant('default'),
  name: text,
  aliases: fc.uniqueArray(text, { maxLength: 3 }),
  purpose: fc.constantFrom('wrap', 'kem', 'sign', 'mac'),
  labels: fc.dictionary(text, text, { maxKeys: 4, noNullPrototype: true }),
  rotation: fc.constant(null),
  rotationHold: perhaps(
    fc.record({
      at: when,
      reason: text,
      primary: ordinal,
      policy: perhaps(text),
      policyRevision: counted,
    }),
  ),
  deletionProtection: fc.boolean(),
  origin: fc.constantFrom('generated', 'imported'),
  exportable: fc.boolean(),
  exports: fc.array(keyExport, { maxLength: 2 }),
  publish: fc.boolean(),
  primary: perhaps(ordinal),
  minUsableVersion: counted,
  latestVersion: counted,
  suspension: perhaps(fc.record({ at: when, reason: text })),
  destruction: perhaps(destruction),
  destroyedAt: perhaps(when),
  createdAt: when,
  revision: counted,
});

/** What cannot leave has not left. */
export const anyKey: fc.Arbitrary<Key> = keyRecord.map((key) =>
  key.exportable ? key : { ...key, exports: [] },
);
