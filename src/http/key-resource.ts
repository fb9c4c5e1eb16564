/** Keys and versions as the API shows them. */
import type { KEY_STATES } from '../contract/keys.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { policyResource } from './policy-resource.ts';
import { copiesOf } from './copies.ts';
import type { Tombstones } from './copies.ts';
import { halfName } from './suite-resource.ts';
import { destructionOf, usagesOf } from '../keyring/lifecycle.ts';
import type { Suite } from '../crypto/suite.ts';
import type { Key, KeyExport, KeyVersion, Material, SealedHalf } from '../keyring/model.ts';
import type { KeySummary, KeyView } from '../keyring/operations.ts';
import type { TokenFacts } from './dependencies.ts';

export function stateOf(key: Key): (typeof KEY_STATES)[number] {
  if (key.destroyedAt !== null) return 'destroyed';
  if (key.destruction !== null) return 'pending-destruction';
  return key.suspension === null ? 'enabled' : 'suspended';
}

/** With `token` it says until when copies of what is destroyed, or is to be, may exist. */
export function keyResource(
  { key, versions }: KeyView,
  token?: Pick<TokenFacts, 'backupHorizonMs'>,
  tombstones?: Tombstones,
) {
  const primary = versions.find(({ version }) => version === key.primary) ?? null;
  const ended = key.destroyedAt ?? key.destruction?.at;
  return {
    ...summaryResource({ key, primary }),
    ...(token ? copiesOf(ended, versions, token, tombstones) : {}),
  };
}

/** As lists show it, which read no versions but the primary. */
export function summaryResource({ key, primary }: KeySummary) {
  return {
    id: key.id,
    namespace: key.namespace,
    name: key.name,
    aliases: key.aliases,
    purpose: key.purpose,
    state: stateOf(key),
    suspension: key.suspension,
    suite: primary === null ? null : findSuiteByNumber(primary.suite).id,
    primary: key.primary,
    latestVersion: key.latestVersion,
    minUsableVersion: key.minUsableVersion,
    labels: key.labels,
    rotation: key.rotation && policyResource(key.rotation),
    rotationHold: key.rotationHold,
    deletionProtection: key.deletionProtection,
    origin: key.origin,
    exportable: key.exportable,
    exports: key.exports.map(exportResource),
    publish: key.publish,
    createdAt: key.createdAt,
    destruction: key.destruction,
    destroyedAt: key.destroyedAt,
    revision: key.revision,
  };
}

const exportResource = ({ version, at, suite, recipient, by, approval }: KeyExport) => ({
  version,
  at,
  recipient: {
    suite: findSuiteByNumber(suite).id,
    fingerprint: Buffer.from(recipient).toString('hex'),
  },
  by,
  approval,
});

/** The entity tag of a key: one for each revision. */
export const entityTag = (key: Pick<Key, 'revision'>): string => `"${key.revision}"`;

interface Halves {
  readonly suite: Suite;
  readonly origin: KeyVersion['origin'];
}

const EXTRACTABLE = {
  'non-extractable': 'no',
  extractableByPinHolder: 'extractableByPinHolder',
  unknown: 'unknown',
} as const;

function hsmHalf(
  material: NonNullable<Material['classical']>,
  { suite, origin }: Halves,
  token: TokenFacts,
) {
  const { hsm } = material;
  const part = suite.parts.find(({ half }) => half === 'classical');
  return {
    half: part === undefined ? ('symmetric' as const) : halfName(part.half),
    algorithm: part?.algorithm ?? suite.id,
    custody: hsm.custody,
    origin: origin === 'imported' ? origin : ('hsm' as const),
    extractable: EXTRACTABLE[token.custody()],
    tokenSerial: hsm.custody === 'hsm-token' ? hsm.tokenSerial : null,
    rootGeneration: hsm.custody === 'hsm-wrapped' ? hsm.generation : null,
  };
}

function sealedHalf({ suite, origin }: Halves, { generation }: SealedHalf) {
  const part = suite.parts.find(({ half }) => half === 'pq');
  return {
    half: halfName('pq'),
    algorithm: part?.algorithm ?? suite.id,
    custody: 'sealed' as const,
    origin: origin === 'imported' ? origin : ('software' as const),
    // Its seal opens with the HSM alone; the PIN alone gives no more than any use of the service.
    extractable: 'no' as const,
    tokenSerial: null,
    rootGeneration: generation,
  };
}

function halvesOf(version: KeyVersion, token: TokenFacts) {
  if (version.state === 'destroyed') return [];
  const suite = findSuiteByNumber(version.suite);
  const { origin, material } = version;
  const { classical, pq } = material;
  return [
    ...(pq === null ? [] : [sealedHalf({ suite, origin }, pq.half)]),
    ...(classical === null ? [] : [hsmHalf(classical, { suite, origin }, token)]),
  ];
}

const NO_TIMES = {
  activateAt: null,
  activatedAt: null,
  deactivateAt: null,
  deactivatedAt: null,
  compromisedAt: null,
  destruction: null,
  destroyedAt: null,
  suspension: null,
  reason: null,
};

/** The fields that only some states have; null in the others. */
function stateFields(version: KeyVersion, tombstones: Tombstones | undefined) {
  switch (version.state) {
    case 'pre-active': {
      const { activateAt, destruction } = version;
      return { ...NO_TIMES, activateAt, destruction };
    }
    case 'active': {
      const { activatedAt, deactivateAt } = version;
      return { ...NO_TIMES, activatedAt, deactivateAt };
    }
    case 'suspended': {
      const { activatedAt, deactivateAt, suspension, destruction } = version;
      return { ...NO_TIMES, activatedAt, deactivateAt, suspension, destruction };
    }
    case 'deactivated': {
      const { activatedAt, deactivatedAt, reason, destruction } = version;
      return { ...NO_TIMES, activatedAt, deactivatedAt, reason, destruction };
    }
    case 'compromised': {
      const { activatedAt, compromisedAt, reason, destruction } = version;
      return { ...NO_TIMES, activatedAt, compromisedAt, reason, destruction };
    }
    case 'destroyed': {
      const { compromisedAt, destroyedAt, reason } = version;
      const { activatedAt = null, deactivatedAt = null } = tombstones?.get(version.version) ?? {};
      return { ...NO_TIMES, activatedAt, deactivatedAt, compromisedAt, destroyedAt, reason };
    }
  }
}

/** When it was destroyed, or is to be. */
const endOf = (version: KeyVersion): Date | undefined =>
  version.state === 'destroyed' ? version.destroyedAt : destructionOf(version)?.at;

/** `tombstones`: of the key; no version that is changed is destroyed, so that answers to its changes need none. */
export function versionResource(
  key: Key,
  version: KeyVersion,
  token: TokenFacts,
  tombstones?: Tombstones,
) {
  const usableFor = usagesOf(key, version, token.now());
  return {
    key: key.name,
    keyId: key.id,
    version: version.version,
    suite: findSuiteByNumber(version.suite).id,
    state: version.state,
    primary: version.version === key.primary,
    usable: usableFor.length > 0,
    usableFor,
    origin: version.origin,
    halves: halvesOf(version, token),
    createdAt: version.createdAt,
    ...stateFields(version, tombstones),
    ...copiesOf(endOf(version), [version], token, tombstones),
    certificateChain:
      version.certificateChain === null
        ? null
        : Buffer.from(version.certificateChain).toString('hex'),
    revision: version.revision,
  };
}
