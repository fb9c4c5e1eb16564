/** Finding token objects and reading their attributes. */
import { CKA, readUlong } from './cryptoki.ts';
import type { Attribute, Cryptoki, Handle } from './cryptoki.ts';

const FIND_BATCH = 64;

/** Handles of all objects that match; linear in the token's objects, so callers cache. */
export function findObjects(cryptoki: Cryptoki, session: Handle, template: Attribute[]): Handle[] {
  const found: Handle[] = [];
  cryptoki.C_FindObjectsInit(session, template);
  try {
    for (;;) {
      const batch = cryptoki.C_FindObjects(session, FIND_BATCH);
      found.push(...batch);
      if (batch.length < FIND_BATCH) return found;
    }
  } finally {
    cryptoki.C_FindObjectsFinal(session);
  }
}

/** One attribute, or `undefined` where the token does not know it or will not say. */
export function readAttribute(
  cryptoki: Cryptoki,
  session: Handle,
  object: Handle,
  type: number,
): Buffer | undefined {
  try {
    return cryptoki.C_GetAttributeValue(session, object, [{ type }])[0]?.value;
  } catch {
    return undefined;
  }
}

export function readFlag(
  cryptoki: Cryptoki,
  session: Handle,
  object: Handle,
  type: number,
): boolean | undefined {
  const value = readAttribute(cryptoki, session, object, type);
  return value === undefined || value.length === 0 ? undefined : value[0] !== 0;
}

export function readClass(cryptoki: Cryptoki, session: Handle, object: Handle): number {
  const value = readAttribute(cryptoki, session, object, CKA.CLASS);
  return value === undefined ? -1 : readUlong(value);
}

/** Copies into memory of its own, which can be transferred, and wipes the source. */
export function takeBytes(source: Uint8Array): Uint8Array {
  const taken = new Uint8Array(source);
  source.fill(0);
  return taken;
}
