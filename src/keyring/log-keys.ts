/** What the keys of the log's checkpoints need of the root and of token intents (`audit/key-ports.ts`). */
import type { LogSeals, LogTokenIntents } from '../audit/key-ports.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm } from '../hsm/port.ts';
import { tokenObjectId } from './material.ts';
import type { KeyStore } from './ports.ts';
import type { Root, SealBinding } from './root.ts';
import { attestIntent } from './row-mac.ts';

/** A log key has one version, and its id is nobody else's. */
const VERSION = 0;

const bindingOf = (keyId: string): SealBinding => ({
  keyId,
  version: VERSION,
  suite: 0,
  part: 'log',
});

export const logSeals = (root: Root): LogSeals => ({
  installation: root.installation,
  mac: root.mac,
  seal: (seed, keyId) => root.seal(seed, bindingOf(keyId)),
  unseal: (seed, keyId) => root.unseal(seed, bindingOf(keyId)),
});

export interface IntentParts {
  readonly hsm: Pick<Hsm, 'status'>;
  readonly root: Pick<Root, 'mac' | 'installation'>;
  readonly store: Pick<KeyStore, 'intendTokenObject' | 'dropIntent'>;
  /** UUID of this incarnation. */
  readonly instance: string;
  readonly clock: () => Date;
}

export const logTokenIntents = ({
  hsm,
  root,
  store,
  instance,
  clock,
}: IntentParts): LogTokenIntents => ({
  toMake: async (keyId) => {
    const serial = hsm.status().token?.serial;
    if (serial === undefined) throw new TwofoldError('hsm_unavailable');
    const { installation, mac } = root;
    const objectId = tokenObjectId(installation, keyId, VERSION);
    const intent = { objectId, installation, tokenSerial: serial, instance, createdAt: clock() };
    await store.intendTokenObject(await attestIntent(mac, intent));
    return objectId;
  },
  toRemove: ({ objectId, installation, tokenSerial }) =>
    attestIntent(root.mac, { objectId, installation, tokenSerial, instance, createdAt: clock() }),
  drop: (objectId) => store.dropIntent(objectId),
});
