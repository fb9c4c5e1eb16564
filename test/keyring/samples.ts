/** Keys and versions as values: fixed ones for golden bytes, and one of each state. */
import type { HsmMaterial } from '../../src/hsm/port.ts';
import type {
  Destruction,
  Key,
  KeyVersion,
  Material,
  VersionState,
} from '../../src/keyring/model.ts';

export const KEY_ID = '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90';
export const at = (day: number): Date => new Date(Date.UTC(2026, 0, day, 12, 30, 15, 123));
const fill = (length: number, value: number) => new Uint8Array(length).fill(value);

export const WRAPPED: HsmMaterial = {
  custody: 'hsm-wrapped',
  generation: 1,
  blob: fill(40, 1),
  check: fill(65, 2),
};
export const ON_TOKEN: HsmMaterial = {
  custody: 'hsm-token',
  tokenSerial: 'S1',
  installation: '5e1f8b1c-98a4-4b5e-9d5d-1d2f6a3b4c5d',
  objectId: fill(37, 3),
  check: fill(32, 4),
};
export const MATERIAL: Material = {
  classical: { public: fill(65, 2), hsm: WRAPPED },
  pq: { public: fill(1184, 5), half: { custody: 'sealed', generation: 1, sealed: fill(93, 6) } },
  psk: { custody: 'sealed', generation: 1, sealed: fill(61, 7) },
};

export const DESTRUCTION: Destruction = { at: at(9), requestedAt: at(6), reason: 'no longer used' };

export const KEY: Key = {
  id: KEY_ID,
  namespace: 'default',
  name: 'payments',
  aliases: [],
  purpose: 'wrap',
  labels: { team: 'ml', env: 'prod' },
  rotation: null,
  rotationHold: null,
  deletionProtection: true,
  origin: 'generated',
  exportable: false,
  exports: [],
  publish: false,
  primary: 2,
  minUsableVersion: 1,
  latestVersion: 2,
  suspension: { at: at(4), reason: 'incident' },
  destruction: null,
  destroyedAt: null,
  createdAt: at(1),
  revision: 3,
};

const core = {
  keyId: KEY_ID,
  version: 1,
  suite: 0x0101,
  origin: 'generated' as const,
  createdAt: at(1),
  certificateChain: null,
  revision: 1,
};

/** With a value in each column that came later. */
export const LATER_KEY: Key = {
  ...KEY,
  publish: true,
  aliases: ['pay', 'payments.eu'],
  destruction: DESTRUCTION,
};

/** A key of which a version has left. */
export const EXPORTED_KEY: Key = {
  ...LATER_KEY,
  origin: 'imported',
  exportable: true,
  exports: [
    {
      version: 1,
      at: at(5),
      suite: 0x0101,
      recipient: fill(32, 9),
      by: { issuer: 'https://issuer.example', subject: 'alice' },
      approval: '8c2a4a0e-5f0f-4c5e-9d5d-1d2f6a3b4c5d',
    },
  ],
};

/** A key of which a rotation was undone. */
export const HELD_KEY: Key = {
  ...KEY,
  primary: 1,
  rotationHold: {
    at: at(5),
    reason: 'a consumer broke',
    primary: 1,
    policy: 'yearly',
    policyRevision: 7,
  },
};

/** A version of each state, every optional time set. */
export const VERSIONS: Readonly<Record<VersionState, KeyVersion>> = {
  'pre-active': {
    ...core,
    state: 'pre-active',
    material: MATERIAL,
    activateAt: at(9),
    destruction: null,
  },
  active: { ...core, state: 'active', material: MATERIAL, activatedAt: at(2), deactivateAt: at(9) },
  suspended: {
    ...core,
    state: 'suspended',
    material: MATERIAL,
    activatedAt: at(2),
    deactivateAt: at(9),
    suspension: { at: at(3), reason: 'held' },
    destruction: null,
  },
  deactivated: {
    ...core,
    state: 'deactivated',
    material: MATERIAL,
    activatedAt: at(2),
    deactivatedAt: at(4),
    reason: 'retired',
    destruction: null,
  },
  compromised: {
    ...core,
    state: 'compromised',
    material: MATERIAL,
    activatedAt: at(2),
    compromisedAt: at(5),
    reason: 'leaked',
    destruction: null,
  },
  destroyed: {
    ...core,
    state: 'destroyed',
    destroyedAt: at(6),
    compromisedAt: at(5),
    reason: 'gone',
  },
};

export const STATES = Object.keys(VERSIONS) as VersionState[];

/** A version whose destruction is scheduled, from each state that can have one. */
export const SCHEDULED: Readonly<Record<string, KeyVersion>> = {
  'pre-active to be destroyed': {
    ...VERSIONS['pre-active'],
    destruction: DESTRUCTION,
  } as KeyVersion,
  'suspended to be destroyed': {
    ...VERSIONS.suspended,
    destruction: DESTRUCTION,
  } as KeyVersion,
  'deactivated to be destroyed': {
    ...VERSIONS.deactivated,
    destruction: DESTRUCTION,
  } as KeyVersion,
  'compromised to be destroyed': {
    ...VERSIONS.compromised,
    destruction: DESTRUCTION,
  } as KeyVersion,
};
