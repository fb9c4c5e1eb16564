/**
 * The three inputs that bind an operation to its circumstances; none of them is secret.
 *
 * `encryptionContext` and `aad` become the canonical context of the wrap (ARCHITECTURE.md, envelope),
 * `signatureContext` the context of FIPS 204 section 5.2 and of the composite signatures.
 */
import { z } from 'zod';

import { MAX_AAD, fail, publicBytes } from './scalars.ts';

/** Most pairs of an encryption context. */
export const MAX_CONTEXT_PAIRS = 16;
/** Names and values of an encryption context together, UTF-8 bytes. */
export const MAX_CONTEXT_BYTES = 4096;

export type EncryptionContext = Readonly<Record<string, string>>;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// NUL has no place in names that policies compare and databases store.
const isContextText = (value: unknown): value is string =>
  typeof value === 'string' && value.isWellFormed() && !value.includes('\0');

/** What is wrong with the pairs, or undefined. Messages never repeat a name or value. */
function problemOf(pairs: readonly (readonly [string, unknown])[]): string | undefined {
  if (pairs.length > MAX_CONTEXT_PAIRS) return `must have at most ${MAX_CONTEXT_PAIRS} pairs`;
  let size = 0;
  for (const [name, value] of pairs) {
    if (name === '') return 'must not have an empty name';
    if (!isContextText(name) || !isContextText(value)) return 'must map text to text';
    size += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  return size > MAX_CONTEXT_BYTES ? `must be at most ${MAX_CONTEXT_BYTES} bytes` : undefined;
}

/**
 * String to string, at most 16 pairs and 4 KiB, bound as associated data, seen by policy and audit.
 * Written by hand because z.record drops the name `__proto__`, which would then not be bound.
 */
export const encryptionContext = z
  .unknown()
  .transform((value, ctx): EncryptionContext => {
    if (!isObject(value)) return fail(ctx, 'invalid_value', 'must be an object of strings');
    const problem = problemOf(Object.entries(value));
    return problem === undefined
      ? (value as EncryptionContext)
      : fail(ctx, 'invalid_value', problem);
  })
  .meta({
    description:
      'Non-secret pairs that must be given again to open the ciphertext. At most 16 pairs and 4 KiB.',
    override: {
      type: 'object',
      additionalProperties: { type: 'string' },
      maxProperties: MAX_CONTEXT_PAIRS,
    },
  });

export const aad = publicBytes({
  max: MAX_AAD,
  description: 'Additional authenticated data: not secret, not stored, needed again to open.',
});

export const signatureContext = publicBytes({
  max: 255,
  description: 'Context of the signature, at most 255 bytes, for suites that have one.',
});

/** Members of every body that binds a wrap. */
export const BINDING = {
  encryptionContext: encryptionContext.optional(),
  aad: aad.optional(),
} as const;
