/** What the checks of a conformance run are written with: the shape of one, and keys for it. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { OBJECT_ID_BYTES, uuidBytes } from './inputs.ts';
import type { Hsm, HsmKey, HsmKeySpec, RootOnToken } from './port.ts';

export interface Check {
  readonly name: string;
  /** Capabilities without which the check cannot run here. */
  readonly needs: readonly string[];
  readonly run: (hsm: Hsm, root: RootOnToken) => Promise<void>;
}

/** Fails unless the call fails with exactly this code. */
export async function refused(call: Promise<unknown>, ...codes: ErrorCode[]): Promise<void> {
  const outcome = await call.then(
    () => 'accepted',
    (error: unknown) => (TwofoldError.is(error) ? error.code : String(error)),
  );
  assert.ok(
    codes.some((code) => code === outcome),
    `${outcome} instead of ${codes.join(' or ')}`,
  );
}

/** By content: buffers may come from another realm, which a deep comparison tells apart. */
export function equal(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a !== undefined && Buffer.compare(a, b) === 0;
}

/** A new key under the root. */
export async function wrapped(hsm: Hsm, spec: HsmKeySpec): Promise<HsmKey> {
  const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
  assert.equal(material.custody, 'hsm-wrapped');
  return { id: randomUUID(), spec, material };
}

/** A key on the token for as long as `use` takes. */
export async function withTokenKey(
  hsm: Hsm,
  spec: HsmKeySpec,
  use: (key: HsmKey, installation: string) => Promise<void>,
): Promise<void> {
  const installation = randomUUID();
  const id = randomBytes(OBJECT_ID_BYTES);
  uuidBytes(installation).copy(id);
  const material = await hsm.generate(spec, {
    custody: 'hsm-token',
    objectId: Uint8Array.from(id),
  });
  assert.equal(material.custody, 'hsm-token');
  try {
    await use({ id: randomUUID(), spec, material }, installation);
  } finally {
    await hsm.destroyTokenKey(material);
  }
}
