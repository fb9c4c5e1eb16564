/** Keys of a log that exist in memory only: what routes show of them and how they ask for new ones. */
import { randomUUID } from 'node:crypto';
import type { ListedLogKey, LogKey, LogKeySet } from '../../src/audit/key-ports.ts';
import { vkeyOf } from '../../src/audit/log-vkeys.ts';
import { formatVkey } from '../../src/audit/tree/vkey.ts';

const ORIGIN = 'log.example/memory';

const pairOf = (fill: number, state: LogKey['state']): LogKey[] =>
  (['ed25519', 'ml-dsa-44'] as const).map((kind) => ({
    ...{ id: randomUUID(), kind, zone: 'z1', state, pinned: state === 'active', announced: null },
    publicKey: new Uint8Array(kind === 'ed25519' ? 32 : 1312).fill(fill),
    material: { custody: 'sealed', generation: 1, sealed: new Uint8Array(60) },
    createdAt: new Date('2026-01-01T00:00:00Z'),
    activatedAt: state === 'active' ? new Date('2026-01-01T00:00:00Z') : null,
    ...{ retiredAt: null, revision: 1 },
  }));

const listed = ({ material, ...key }: LogKey): ListedLogKey => ({
  ...key,
  vkey: formatVkey(vkeyOf(ORIGIN, key)),
  custody: material?.custody ?? null,
});

export const logKeysInMemory = (): LogKeySet => {
  const active = pairOf(1, 'active').map(listed);
  return {
    origin: ORIGIN,
    list: () => Promise.resolve(active),
    next: () => {
      const keys = pairOf(2, 'pending');
      const rows = keys.map((value) => ({ value, mac: new Uint8Array(32) }));
      const discard = () => Promise.resolve();
      return Promise.resolve({ keys: keys.map(listed), pair: { rows, objectId: null }, discard });
    },
  };
};
