/** What followers are told of changes of the rotation policies of a namespace. */
import { createHash } from 'node:crypto';

import { uuidText } from '../crypto/uuid.ts';
import type { ChangeEvent, EventType } from './events.ts';

/**
 * In the place of a key's id, by which events are filtered: a UUID of version 8 (RFC 9562 section 5.8) of
 * the names, the same for ever. @param name null for what is of all policies of the namespace
 */
export function policyEventId(namespace: string, name: string | null): string {
  const bytes = createHash('sha256')
    .update(JSON.stringify(['rotation-policies', namespace, name]))
    .digest()
    .subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return uuidText(bytes);
}

/** `kind` of the change's audit entry -> its type; `set` is one of two. */
const TYPES: Readonly<Record<string, EventType>> = {
  delete: 'rotation-policy.deleted',
  pause: 'rotation-policy.paused',
  resume: 'rotation-policy.resumed',
  'pause-all': 'rotations.paused',
  'resume-all': 'rotations.resumed',
};

interface PolicyFacts {
  readonly namespace: string;
  /** Null: the pause of all. */
  readonly name: string | null;
  readonly kind: string;
  readonly isNew: boolean;
  /** Without values of labels. */
  readonly data: ChangeEvent['data'];
}

export function policyEvent({ namespace, name, kind, isNew, data }: PolicyFacts): ChangeEvent {
  const type =
    TYPES[kind] ?? (isNew ? ('rotation-policy.created' as const) : 'rotation-policy.changed');
  const keyId = policyEventId(namespace, name);
  return { n: 1, type, keyId, keyName: name ?? namespace, data };
}
