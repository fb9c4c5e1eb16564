/** Keys of the log in the form in which they are pinned (C2SP vkeys). */
import type { LogKey, LogKeyKind } from './key-ports.ts';
import { SIGNATURE_TYPE, makeVkey } from './tree/vkey.ts';
import type { SignatureType, Vkey } from './tree/vkey.ts';

const TYPES: Readonly<Record<LogKeyKind, SignatureType>> = {
  ed25519: SIGNATURE_TYPE.ed25519,
  'ml-dsa-44': SIGNATURE_TYPE.mlDsa44Cosignature,
};

/** All keys of a log have its name. */
export const vkeyOf = (
  origin: string,
  { kind, publicKey }: Pick<LogKey, 'kind' | 'publicKey'>,
): Vkey => makeVkey(origin, TYPES[kind], publicKey);
